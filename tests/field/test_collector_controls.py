"""A collector beside a gateway that went silent in a control tells of it, until the end is heard."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certs.signing import TrustedSigners
from core.records import Outcome, Record
from core.topics import Lane
from headend.arrival import store
from headend.books import Books
from headend.intake import Accepted, Intake
from tests.field.test_collector import Site, Uplink, until
from tests.support.gateway_double import ENTITY, GatewayDouble

pytestmark = [pytest.mark.field, pytest.mark.timeout(90)]
MINUTE_MS = 60_000


def told(double: GatewayDouble, seq: int, state: str, at: int, **x: int) -> tuple[str, bytes]:
    records: list[Record] = [
        Outcome(
            seq=seq,
            at=at,
            command="c-1",
            entity=ENTITY,
            state=state,
            device="wh-01",
            point="LoadShed",
            x=dict(x),
        )
    ]
    return double.sealed(seq, seq, None, records, lane=Lane.CONTROL, cert=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_the_alarm_is_raised_by_a_running_collector_and_cleared_by_the_end(site: Site) -> None:
    double = GatewayDouble(site.keys.stream())
    then = time.time_ns() // 1_000_000 - 10 * MINUTE_MS
    books = Books(site.books, then)
    verdict = Intake(ENTITY, TrustedSigners(site.keys.ca), books).judge(
        *told(double, 1, "accepted", then, begin=then, end=then + MINUTE_MS), then + 10 * MINUTE_MS
    )
    assert isinstance(verdict, Accepted)
    with books.transaction(then):
        store(books, verdict)
    books.close()
    standing = "SELECT code, gateway FROM alarm WHERE cleared_ms IS NULL"
    site.collect()
    until(
        lambda: site.query(standing) == [("control-unknown-end", "gw-0001")],
        "the alarm is raised",
    )
    uplink = Uplink(site)
    try:
        uplink.send(told(double, 2, "restored", then + MINUTE_MS))
        until(lambda: site.query(standing) == [], "the alarm is cleared")
    finally:
        uplink.close()
