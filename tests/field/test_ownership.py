"""Who gets a reading once there is a signed assignment: whom it names, and nobody whom the file claims."""

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli.plans import CollectorPlan, GatewayPlan, RoutePlan, StandPlan
from cli.process import portico, wait_until
from cli.stand import Stand
from headend.schema import open_reader
from tests.field.test_command_stand import PATIENCE_S, lay_policy

pytestmark = [pytest.mark.field, pytest.mark.timeout(180)]
RELAY, METER = "heater-relay", "main-meter"


def rows(books: Path) -> dict[str, int]:
    with closing(open_reader(books)) as connection:
        found = connection.execute(
            "SELECT grp.device, count(*) FROM row JOIN grp ON grp.no = row.grp_no GROUP BY grp.device"
        )
        return dict(found.fetchall())


def test_an_entity_that_the_file_claims_and_the_assignment_does_not_name_never_gets_a_row(
    tmp_path: Path,
) -> None:
    base = lay_policy(tmp_path)
    both = ["dso.example", "esco1"]
    plan = StandPlan(
        gateways=(
            GatewayPlan(
                routes=(RoutePlan(), RoutePlan("esco1")),
                devices=(RELAY, METER),
                device_keys={RELAY: {"data_owners": both}, METER: {"data_owners": both}},
                tables=f'[policy]\nroot = "{base / "root.json"}"\nfolder = "{base / "out"}"\n',
            ),
        ),
        collectors=(CollectorPlan(), CollectorPlan("esco1")),
    )
    with Stand(tmp_path / "stand", plan) as stand:
        books = stand.books()

        def alarms() -> str:
            shown = portico("headend", "alarms", "--books", str(books["dso.example"]), "--json")
            return subprocess.run(shown, capture_output=True, check=True).stdout.decode()

        def arrived(entity: str, device: str, count: int) -> bool:
            return rows(books[entity]).get(device, 0) >= count

        wait_until(lambda: json.dumps(stand.agent.status()).find('"assignment": 1') > 0, PATIENCE_S, alarms)
        begun = rows(books["esco1"]).get(RELAY, 0)  # while the assignment was on its way
        wait_until(lambda: arrived("dso.example", RELAY, begun + 10), PATIENCE_S, alarms)
        wait_until(lambda: arrived("esco1", METER, 10), PATIENCE_S, alarms)
        wait_until(lambda: "ownership-differs" in alarms(), PATIENCE_S, alarms)
        held = rows(books["esco1"]).get(RELAY, 0)
        # A start with the assignment on the disk: not one row goes by the file's word.
        stand.agent.kill9()
        stand.agent.start()
        before = rows(books["dso.example"])[RELAY]
        wait_until(lambda: arrived("dso.example", RELAY, before + 10), PATIENCE_S, alarms)
        wait_until(lambda: arrived("esco1", METER, 20), PATIENCE_S, alarms)
        assert rows(books["esco1"]).get(RELAY, 0) == held
