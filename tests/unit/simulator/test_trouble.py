"""Faults that last a while and values set by hand: each told once when it begins and once when it ends."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.types import load_type
from simulator import trouble
from simulator.ctl import Desk, FaultAsked, ListAsked, SetAsked
from simulator.exchange import Cut
from simulator.faults import Fault, FaultKind
from simulator.log import PlantLog
from simulator.trouble import Place, Trouble, Troubles
from tests.support.virtual_time import VirtualTimeLoop
from tests.unit.simulator.test_device import RELAY, Bench

SILENT = Fault(FaultKind.SILENT)


class Ground:
    """A meter that stands alone and a relay that does not, with the log of their troubles."""

    def __init__(self, log: PlantLog) -> None:
        self.meter = Bench(load_type("eastron-sdm630"), {"PhVphA": 230.04, "TotWhImp": 1.0e6})
        self.relay = Bench(RELAY)
        self.cuts: list[Cut] = []
        places = {
            "meter": Place(self.meter.device, self.cuts.append),
            "relay": Place(self.relay.device, None),
        }
        self.troubles = Troubles(places, log, lambda: 1234)
        self.desk = Desk(
            {name: place.device for name, place in places.items()},
            {name: {"device": name} for name in places},
            self.troubles,
        )
        self._log = log

    def told(self) -> list[tuple[object, ...]]:
        lines = [json.loads(line) for line in self._log.path.read_text().splitlines()]
        return [(one["device"], one.get("fault", one.get("point")), one["began"], one["id"]) for one in lines]

    def begin(self, device: str, fault: Fault, lasts_s: float | None = None) -> Trouble:
        return self.troubles.begin(device, fault, cause="hand", lasts_s=lasts_s)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with PlantLog(tmp_path / "log") as log:
        yield Ground(log)


async def test_a_fault_begins_and_ends_once_in_the_log(ground: Ground) -> None:
    first = ground.begin("meter", SILENT)
    assert ground.meter.device.condition.now == SILENT
    ground.troubles.end(first.number)
    ground.troubles.end(first.number)
    assert ground.meter.device.condition.now is None
    assert ground.told() == [("meter", "silent", True, 1), ("meter", "silent", False, 1)]


def test_a_fault_ends_by_itself_when_its_time_is_over(ground: Ground) -> None:
    async def main() -> None:
        ground.begin("meter", SILENT, lasts_s=60.0)
        await asyncio.sleep(59.9)
        assert ground.meter.device.condition.now == SILENT
        await asyncio.sleep(0.2)
        assert ground.meter.device.condition.now is None
        assert ground.troubles.lasting == ()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


async def test_only_what_is_named_is_cleared(ground: Ground) -> None:
    ground.begin("meter", SILENT)
    ground.begin("relay", SILENT)
    ground.begin("relay", Fault(FaultKind.IGNORED_WRITES))
    assert ground.troubles.clear("relay", "silent") == 1
    assert ground.troubles.clear(kind="exception") == 0
    assert [(one.device, one.kind) for one in ground.troubles.lasting] == [
        ("meter", "silent"),
        ("relay", "ignored-writes"),
    ]
    assert ground.troubles.clear() == 2


async def test_a_reboot_ends_by_itself_and_cuts_the_line_of_who_stands_alone(ground: Ground) -> None:
    for device in ("meter", "relay"):
        found = ground.begin(device, Fault(FaultKind.REBOOT))
        assert found.until_s is not None
    assert ground.cuts == [Cut.RESET]
    ground.troubles.close()


async def test_a_value_set_again_takes_the_place_of_the_one_before(ground: Ground) -> None:
    for text in ("240", "250"):
        ground.troubles.set("meter", "PhVphA", text, lasts_s=None)
    assert len(ground.troubles.lasting) == 1
    assert ground.meter.device.values()["PhVphA"] == 250.0


async def test_what_cannot_begin_is_not_told_and_does_not_last(ground: Ground) -> None:
    with pytest.raises(ValueError, match="has no clock"):
        ground.begin("meter", Fault(FaultKind.CLOCK_DRIFT))
    assert ground.troubles.lasting == ()
    assert ground.told() == []


@pytest.mark.parametrize("kind", [FaultKind.REFUSED_WRITES, FaultKind.IGNORED_WRITES])
async def test_a_device_that_takes_no_writes_cannot_fail_to_obey(ground: Ground, kind: FaultKind) -> None:
    with pytest.raises(
        ValueError, match=f"eastron-sdm630 takes no writes, so {kind.value} cannot show on it"
    ):
        ground.begin("meter", Fault(kind))
    assert ground.told() == []
    assert ground.begin("relay", Fault(kind)).kind == kind.value


async def test_there_is_a_bound_to_what_lasts(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "MOST_TROUBLES", 2)
    ground.begin("meter", SILENT)
    ground.begin("meter", SILENT)
    with pytest.raises(ValueError, match="clear some first"):
        ground.begin("meter", SILENT)


async def test_an_order_by_hand_does_not_last_as_a_trouble(ground: Ground) -> None:
    assert ground.troubles.set("relay", "LoadShed", "1", lasts_s=None) is None
    assert ground.troubles.lasting == ()


async def test_values_are_listed_as_their_registers_round_them(ground: Ground) -> None:
    (listed,) = ground.desk.answer(ListAsked(device="meter"), 0.0)["devices"]  # type: ignore[misc]
    shown = {one["point"]: (one["value"], one["unit"]) for one in listed["values"]}
    assert shown["PhVphA"] == (pytest.approx(230.04), "V")
    assert shown["TotWhImp"] == (1000, "kWh")


async def test_an_answer_tells_how_long_a_fault_still_lasts(ground: Ground) -> None:
    now_s = asyncio.get_running_loop().time()
    told = ground.desk.answer(FaultAsked("meter", "late", for_s=60.0), now_s)
    assert (told["ok"], told["kind"], told["left_s"]) == (True, "late", 60.0)
    assert ground.desk.answer(SetAsked("meter", "PhVphA", "x"), now_s) == {
        "ok": False,
        "error": "PhVphA is a number, not 'x'",
    }
    ground.troubles.close()
