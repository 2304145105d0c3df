"""Counters reset while the gateway is dead: the first row afterwards says so, behind transformers too."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli.process import portico, wait_until
from cli.stand import SIMULATOR_TYPES, GatewayPlan, Stand, StandPlan
from tests.support.balance import wait_balanced

DEVICES = ("plain", "behind", "untouched")
SCENARIO = (
    'name = "registers"\nseed = 3\n[[premises]]\nname = "home"\n[[premises.line]]\nname = "lan"\n'
    + "".join(
        f'[[premises.device]]\nname = "{name}"\ntype = "simulator-clock"\nline = "lan"\nunit_id = {unit}\n'
        for unit, name in enumerate(DEVICES, 1)
    )
)
COUNT = 5_000_000
PATIENCE_S = 30


def types_with_a_ratio(directory: Path) -> Path:
    """The simulator's clock meter as one that stands behind transformers."""
    directory.mkdir()
    text = (SIMULATOR_TYPES / "simulator-clock.toml").read_text()
    text = text.replace('name = "simulator-clock"', 'name = "behind-transformers"')
    (directory / "behind-transformers.toml").write_text(text.rstrip() + '\nratio = "ct"\n')
    return directory


def ctl(stand: Stand, *arguments: str) -> None:
    command = portico("simulate", "ctl", *arguments, "--log", str(stand.plant_log.parent))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def in_books(stand: Stand) -> list[tuple[int, str, int, list[str]]]:
    """Epoch, device, TotWhImp and its reasons of each row that has one, in the order of the ticks."""
    query = (
        "SELECT row.epoch_no, grp.device, row.body FROM row JOIN grp ON grp.no = row.grp_no "
        "ORDER BY row.tick, row.seq"
    )
    try:
        with closing(sqlite3.connect(f"{stand.collector.books_path.as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute(query).fetchall()
    except sqlite3.Error:
        return []  # not there yet
    parsed = []
    for epoch, device, body in found:
        _, values, *more = json.loads(body)
        quality = more[0] if more else {}
        if values[2] is not None:
            parsed.append((epoch, device, values[2], [*quality.get("*", []), *quality.get("2", [])]))
    return parsed


def values_of(stand: Stand, device: str) -> list[int]:
    return [value for _, name, value, _ in in_books(stand) if name == device]


@pytest.mark.timeout(180)
def test_counters_reset_while_the_gateway_was_dead_say_so_in_the_first_row_afterwards(tmp_path: Path) -> None:
    scenario = tmp_path / "registers.toml"
    scenario.write_text(SCENARIO)
    gateway = GatewayPlan(
        every="200ms",
        keys={"types": [str(SIMULATOR_TYPES), str(types_with_a_ratio(tmp_path / "types"))]},
        device_keys={"behind": {"type": "behind-transformers"}},
        device_tables={"behind": '[[device.transformer]]\nct = "100/5"\n'},
    )
    with Stand(tmp_path / "stand", StandPlan(scenario=str(scenario), gateways=(gateway,))) as stand:
        for device in DEVICES:
            ctl(stand, "set", device, "TotWhImp", str(COUNT))
        for device, least in (("plain", COUNT), ("behind", 20 * COUNT), ("untouched", COUNT)):
            wait_until(
                lambda device=device, least=least: any(value >= least for value in values_of(stand, device)),
                PATIENCE_S,
                lambda: f"not read: {stand.agent.tail()}",
                0.2,
            )
        stand.agent.kill9()
        for device in ("plain", "behind"):
            ctl(stand, "fault", device, "counter-reset", "--point", "TotWhImp")
        before = max(epoch for epoch, *_ in in_books(stand))
        stand.agent.start()
        wait_until(
            lambda: len({device for epoch, device, *_ in in_books(stand) if epoch > before}) == 3,
            PATIENCE_S,
            lambda: f"no rows after the restart: {stand.agent.tail()}",
            0.2,
        )
        stand.agent.stop()
        wait_balanced(stand, 10)
        later = [row for row in in_books(stand) if row[0] > before]
        first = {device: next(row for row in later if row[1] == device) for device in DEVICES}
        assert {device: row[3] for device, row in first.items()} == {
            "plain": ["reset"],
            "behind": ["reset"],
            "untouched": [],
        }
        assert all(row[2] < COUNT for name, row in first.items() if name != "untouched")
        assert {reason for row in later if row not in first.values() for reason in row[3]} == set()
