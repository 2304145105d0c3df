"""A scenario cut into shares, and what several processes did as one."""

import pytest

from simulator.crew import shares, together
from simulator.parts import FaultPart
from simulator.run import Ended
from simulator.scenario import SCENARIOS, fleet, load_scenario

FLEET = load_scenario(SCENARIOS / "fleet.toml")


@pytest.mark.parametrize(
    ("devices", "workers", "wanted"), [(500, 2, 2), (500, 7, 7), (8, 5, 2), (4, 3, 1), (10, 1, 1)]
)
def test_every_premises_is_in_one_share_and_shares_are_alike(devices: int, workers: int, wanted: int) -> None:
    whole = fleet(FLEET, devices)
    cut = shares(whole, workers)
    assert len(cut) == wanted
    assert [part for share in cut for part in share.premises] == list(whole.premises)
    sizes = [sum(len(part.device) for part in share.premises) for share in cut]
    assert sum(sizes) == devices
    assert max(sizes) - min(sizes) <= 4


def test_a_share_has_the_faults_of_its_devices() -> None:
    household = load_scenario(SCENARIOS / "household.toml")
    text = '{"device": "counter", "kind": "silent", "at": "1s"}'
    faulty = household.model_copy(update={"fault": (FaultPart.model_validate_json(text),)})
    cut = shares(fleet(faulty, 8), 2)
    assert [[one.device for one in share.fault] for share in cut] == [["counter-01"], ["counter-02"]]


def test_what_several_processes_did_is_added() -> None:
    one = Ended({"ok": 3, "points": 9}, 1, {"a/bus": {"early": 1}})
    other = Ended({"ok": 2, "silent": 1, "points": 4}, 0, {"b/bus": {"early": 0}})
    assert together([one, other]) == Ended(
        {"ok": 5, "silent": 1, "points": 13}, 1, {"a/bus": {"early": 1}, "b/bus": {"early": 0}}
    )
