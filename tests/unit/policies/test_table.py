"""A grant as a row of the table: every constraint that it has is said, and none that it has not."""

import pytest

from policies.grant import Grant
from policies.table import row_of
from tests.unit.policies.made import DENIAL, GRANT, Table

PLAIN = (
    "for peak",
    "lasting at most 2h",
    "customer may opt out at any time",
    "level 100",
    "restores 15min after the last contact",
    "until 2027-04-01T00:00:00Z",
)


def words(table: Table) -> tuple[str, ...]:
    return row_of(Grant.model_validate(table)).constraints


def test_a_plain_grant_reads_as_a_row() -> None:
    row = row_of(Grant.model_validate(GRANT))
    assert row[:5] == ("g", "esco1", "may", "shed", "water-heater")
    assert row.constraints == PLAIN


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"limits": {"values": [0, 1]}}, "value 0 or 1"),
        ({"limits": {"min": 6, "max": 16}}, "value 6 to 16"),
        ({"limits": {"min": "0.50"}}, "value 0.5 or more"),
        ({"limits": {"max": 16}}, "value 16 or less"),
        ({"limits": {"step": 8}}, "in steps of at most 8"),
        ({"windows": [{"start": "06:00", "end": "22:00"}]}, "06:00-22:00"),
        (
            {"windows": [{"days": ["mo", "holiday"], "season": ["10-01", "04-30"], "calendar": "us"}]},
            "mo holiday 00:00-24:00, 10-01 to 04-30, holidays of us",
        ),
        ({"windows": [{"zone": "Europe/Berlin"}]}, "00:00-24:00, Europe/Berlin"),
        ({"duration": {"min": "5min", "max": "2h"}}, "lasting 5min to 2h"),
        ({"budget": {"count_day": 2}}, "2 a day"),
        ({"budget": {"total_week": "10h"}}, "10h a week"),
        ({"budget": {"count_season": 9, "season": ["06-01", "09-30"]}}, "9 a season"),
        ({"budget": {"count_season": 9, "season": ["06-01", "09-30"]}}, "season 06-01 to 09-30"),
        ({"lead": {"min": "1h", "max": "2d"}}, "announced 1h to 2d ahead"),
        ({"randomise": {"start": "2min"}}, "start up to 2min later at random, end up to 0s"),
        ({"opt_out": "none"}, "mandatory: no opt-out"),
        ({"opt_out": "before_start"}, "customer may opt out before the start"),
        (
            {"priority": {"level": 9, "preempts": True, "preemptible": "never"}},
            "level 9, takes over from weaker ones, never gives way",
        ),
        ({"priority": {"preemptible": "before_start"}}, "level 100, gives way before it has started"),
        ({"on_comm_loss": "hold_to_end"}, "without contact it goes on to its end"),
        ({"restore": "previous"}, "restores the previous value"),
        (
            {"latching": True, "latching_max": "30min"},
            "also where the device has no hold: at most 30min",
        ),
        ({"emergency": {"max": "1h"}}, "in an emergency: 2 individuals sign, at most 1h"),
        ({"agreement": "contract 7"}, "agreement: contract 7"),
    ],
)
def test_a_constraint_is_said(changed: Table, said: str) -> None:
    assert said in words(GRANT | changed)
    assert said not in PLAIN


def test_a_denial_says_nothing_of_permission() -> None:
    row = row_of(Grant.model_validate(DENIAL | {"from": "*"}))
    assert (row.from_actor, row.modality, row.to_actor, row.constraints) == (
        "any entity",
        "shall not",
        "any device",
        (),
    )


def test_actors_are_told_in_full() -> None:
    to = {
        "kinds": ["a"],
        "points": ["p"],
        "devices": ["d"],
        "owners": ["o"],
        "gateways": ["g"],
        "groups": ["f"],
    }
    row = row_of(
        Grant.model_validate(GRANT | {"to": to, "by": {"applications": ["hub"], "individuals": ["op"]}})
    )
    assert row.to_actor == "a points p devices d of o at g in f"
    assert row.from_actor == "esco1 by hub, op"


def test_a_later_revision_is_told() -> None:
    assert row_of(Grant.model_validate(GRANT | {"revision": 3})).grant == "g (revision 3)"
