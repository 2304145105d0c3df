"""What the parts of one document say against each other, each with its place."""

import pytest

from policies.assignment import Assignment, assignment_faults
from policies.policy import Policy, policy_faults
from policies.roster import Roster, roster_faults
from tests.unit.policies.made import ASSIGNED, CALENDAR, ENTITIES, GRANT, HEAD, HEATER, RELAY, Table

ROSTER: Table = {
    "entity": "customer-17",
    "version": 1,
    "issued": "2026-11-01T00:00:00Z",
    "expires": "2027-01-30T00:00:00Z",
}


def of_policy(**tables: object) -> list[str]:
    """Return the faults of a policy that has something else."""
    plain: Table = {"policy": HEAD, "entity": ENTITIES, "calendar": [CALENDAR], "limits": [RELAY]}
    return policy_faults(Policy.model_validate(plain | {"grant": [GRANT]} | tables))


def of_assignment(**tables: object) -> list[str]:
    """Return the faults of an assignment that has something else."""
    plain: Table = {"assignment": ASSIGNED, "device": [HEATER], "select": [{"grant": "g"}]}
    return assignment_faults(Assignment.model_validate(plain | tables))


def of_roster(head: Table | None = None, **key: object) -> list[str]:
    """Return the faults of a roster with one key that has something else."""
    plain: Table = {
        "id": "k-1",
        "individual": "anna",
        "applications": ["app"],
        "algorithm": "Ed25519",
        "public": "AA==",
        "valid": {"until": "2027-06-01T00:00:00Z"},
    }
    return roster_faults(
        Roster.model_validate(
            {
                "roster": ROSTER | (head or {}),
                "individual": [{"id": "anna", "roles": ["operator"]}],
                "key": [plain | key],
            }
        )
    )


def test_what_fits_together_has_no_faults() -> None:
    assert of_roster() == []
    assert of_policy() == []
    assert of_assignment() == []


@pytest.mark.parametrize("expires", [HEAD["issued"], "2026-10-31T23:59:59Z"])
def test_a_policy_ends_after_it_was_issued(expires: object) -> None:
    assert of_policy(policy=HEAD | {"expires": expires}) == ["policy expires: ends before it was issued"]


@pytest.mark.parametrize("expires", [ASSIGNED["issued"], "2026-11-14T23:59:59Z"])
def test_an_assignment_ends_after_it_was_issued(expires: object) -> None:
    found = of_assignment(assignment=ASSIGNED | {"expires": expires})
    assert found == ["assignment expires: ends before it was issued"]


def test_what_stands_twice_in_a_policy_is_told_by_its_places() -> None:
    assert of_policy(entity=[*ENTITIES, ENTITIES[0]]) == ['entity[5]: "dso" is entity[1] already']
    assert of_policy(calendar=[CALENDAR, CALENDAR]) == ['calendar[2]: "us" is calendar[1] already']
    assert of_policy(grant=[GRANT, GRANT]) == ['grant[2]: "g" is grant[1] already']
    assert of_policy(limits=[RELAY, RELAY]) == ['limits[2]: "relay water-heater Shed" is limits[1] already']


def test_what_stands_twice_in_an_assignment_is_told_by_its_places() -> None:
    assert of_assignment(device=[HEATER, HEATER]) == ['device[2]: "wh-01" is device[1] already']
    assert of_assignment(select=[{"grant": "g"}] * 2) == ['select[2]: "g" is select[1] already']


def test_a_consent_to_what_is_not_selected_is_told_by_its_place() -> None:
    plain = {"revision": 1, "owner": "customer-17", "evidence": "form 1"}
    found = of_assignment(consent=[plain | {"grant": "g"}, plain | {"grant": "h"}])
    assert found == ['consent[2]: "h" is not selected here']


@pytest.mark.parametrize(
    ("validities", "places"),
    [
        ([{}, {}], [2]),
        ([{"until": 1}, {"from": 1}], []),
        ([{"until": 2}, {"from": 1}], [2]),
        ([{"until": 1}, {"from": 1, "until": 2}, {"from": 2}], []),
        ([{"from": 2}, {"until": 1}, {"from": 1, "until": 3}], [3]),
        ([{"from": 2, "until": 3}, {"from": 1, "until": 4}], [2]),
        ([{"from": 3, "until": 4}, {"from": 1, "until": 2}], []),
    ],
)
def test_terms_of_ownership_do_not_overlap(validities: list[dict[str, int]], places: list[int]) -> None:
    terms = [
        {
            "owners": [f"customer-{number}"],
            "valid": {key: f"2026-12-0{day}T00:00:00Z" for key, day in one.items()},
        }
        for number, one in enumerate(validities)
    ]
    found = of_assignment(device=[HEATER | {"ownership": terms}])
    assert [one.partition(":")[0] for one in found] == [
        f'device[1] "wh-01" ownership[{place}]' for place in places
    ]


@pytest.mark.parametrize("expires", ["2026-11-01T00:00:00Z", "2026-10-31T23:59:59Z"])
def test_a_roster_ends_after_it_was_issued(expires: str) -> None:
    assert of_roster({"expires": expires}) == ["roster expires: ends before it was issued"]


def test_a_key_ends_on_some_day_and_is_of_an_individual_of_the_roster() -> None:
    assert of_roster(valid={}) == ['key[1] "k-1" valid: has no until: a key ends on some day']
    assert of_roster(individual="berta") == [
        'key[1] "k-1" individual: "berta" is no [[individual]] of this roster'
    ]


def test_what_stands_twice_in_a_roster_is_told_by_its_places() -> None:
    person = {"id": "anna", "roles": ["operator"]}
    key = {
        "id": "k-1",
        "individual": "anna",
        "applications": ["app"],
        "algorithm": "Ed25519",
        "public": "AA==",
        "valid": {"until": "2027-06-01T00:00:00Z"},
    }
    twice = {"roster": ROSTER, "individual": [person, person], "key": [key, key]}
    assert roster_faults(Roster.model_validate(twice)) == [
        'individual[2]: "anna" is individual[1] already',
        'key[2]: "k-1" is key[1] already',
    ]
