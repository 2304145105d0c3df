"""A device that bears less than its type says, in a whole Portico: every reading arrives all the same."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli.evidence import NoEvidence, read_books
from cli.judge import judge
from cli.process import portico, wait_until
from cli.stand import SIMULATOR_TYPES, GatewayPlan, Stand, StandPlan

TYPES = Path(__file__).resolve().parents[2] / "drivers" / "types"
PATIENCE_S = 60.0
PHANTOM = """
[[point]]
name = "Phantom"
quantity = "W"
table = "input"
address = {address}
type = "float32"
unit = "W"
resolution = "1"
default = true
"""
NOWHERE = 110
"""An address between the registers of the meter, which it refuses."""


def overclaiming(directory: Path) -> Path:
    """A type file for the agent alone: longer reads, wider holes, and a point that the meter has not."""
    directory.mkdir()
    text = (TYPES / "eastron-sdm630.toml").read_text()
    claimed = text.replace("max_registers = 80", "max_registers = 125").replace(
        "max_hole = 16", "max_hole = 100"
    )
    assert len(claimed) == len(text) + 2
    (directory / "eastron-sdm630.toml").write_text(claimed + PHANTOM.format(address=NOWHERE))
    return directory


def stand_of(directory: Path) -> Stand:
    types = [str(overclaiming(directory / "claims")), str(SIMULATOR_TYPES)]
    return Stand(
        directory,
        StandPlan(gateways=(GatewayPlan(every="500ms", line_keys={"timeout": "1s"}, keys={"types": types}),)),
    )


def learned(stand: Stand) -> dict[str, object]:
    found = stand.agent.status().get("learned", {})
    assert isinstance(found, dict)
    return found


def settled(stand: Stand) -> bool:
    known = learned(stand).get("main-meter")
    return isinstance(known, dict) and bool(known["holes"]) and not known["searching"]


def values_of_latest(stand: Stand) -> dict[str, object]:
    """Value by point of the main meter's latest row in the books."""
    with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
        row = db.execute(
            "SELECT g.body, r.body FROM row r JOIN grp g ON g.no = r.grp_no WHERE g.device = 'main-meter' "
            "ORDER BY r.tick DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    points = [point["name"] for point in json.loads(row[0])["points"]]
    return dict(zip(points, json.loads(row[1])[1], strict=True))


def manifests(stand: Stand) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(f"{stand.agent.store_path.as_uri()}?mode=ro", uri=True)) as db:
        found: list[tuple[int, str]] = db.execute("SELECT from_id, hash FROM manifest_span").fetchall()
    return found


@pytest.mark.timeout(180)
def test_what_a_device_refuses_is_learned_kept_and_forgotten_and_every_reading_arrives(
    tmp_path: Path,
) -> None:
    with stand_of(tmp_path) as stand:
        wait_until(lambda: settled(stand), PATIENCE_S, lambda: f"nothing was learned: {stand.agent.tail()}")
        known = learned(stand)
        assert set(known) == {"main-meter"}
        spans = manifests(stand)
        assert 2 <= len(spans) <= 8
        assert len({hash_ for _, hash_ in spans}) == len(spans)

        def all_but_the_phantom() -> bool:
            try:
                values = values_of_latest(stand)
            except (sqlite3.Error, NoEvidence):
                return False
            return {name for name, value in values.items() if value is None} == {"Phantom"}

        wait_until(all_but_the_phantom, PATIENCE_S, lambda: f"not all is read: {stand.agent.tail()}")

        # Over a restart: the first plan is the learned one, nothing is searched again.
        stand.agent.stop()
        before = manifests(stand)
        stand.agent.start()
        wait_until(lambda: learned(stand) == known, PATIENCE_S, lambda: f"forgotten: {stand.agent.tail()}")
        assert [hash_ for _, hash_ in manifests(stand)[len(before) :]] == [before[-1][1]]

        # On demand it is forgotten, and learned again.
        told = subprocess.run(
            portico("agent", "forget", "main-meter", "-c", str(stand.agent.config_path)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (told.returncode, told.stdout.partition(":")[0]) == (0, "forgotten")
        wait_until(
            lambda: len(manifests(stand)) >= len(before) + 3 and settled(stand),
            PATIENCE_S,
            lambda: f"not learned again: {stand.agent.tail()}",
        )
        wait_until(all_but_the_phantom, PATIENCE_S, lambda: f"not all is read: {stand.agent.tail()}")
        stand.agent.stop()
        there = len(read_books("dso.example", stand.collector.books_path).rows)
        assert there > 0
    verdict = judge({stand.agent.plan.id: stand.agent.store_path}, stand.books(), stand.plant_log)
    assert verdict.faults == ()
    assert verdict.confirmed == verdict.committed > 0
