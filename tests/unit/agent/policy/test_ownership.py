"""Whose readings are: the assignment decides, the file may keep points from somebody and widens nothing."""

import pytest

from agent.policy.ownership import Owners
from agent.site import Site, build_site
from core.ownership import Ownership, owners_at
from drivers.types import load_type
from policies.assignment import Assignment
from tests.support.config_text import GATEWAY, LINE, parsed
from tests.unit.agent.policy.test_claims import HEAD, NOW, assigned

DEVICE = (
    '[[device]]\nname = "meter"\ntype = "eastron-sdm630"\nline = "lan"\nunit_id = 1\nevery = "10s"\n'
    'points = ["PhVphA", "W"]\n'
)
CLAIM = 'owner = "dso.example"\npurpose = "settlement"\n'
CHANGE, CHANGED = "2026-12-01T00:00:00Z", 1_796_083_200_000


def decided(assignment: Assignment | None, keys: str = CLAIM) -> Site:
    config = parsed(f"{GATEWAY}{LINE}{DEVICE}{keys}")
    site = build_site(config, load_type)
    return site.with_owners(Owners(config.devices, assignment).decide, site)


def owners(site: Site, group: int = 0) -> tuple[Ownership, ...]:
    return site.manifest.groups[group].owners


def test_the_assignment_decides_over_the_file() -> None:
    found = owners(decided(assigned({"owners": ["customer-17"], "data_owners": ["customer-17", "esco1"]})))
    assert found == (
        Ownership("customer-17", ("customer-17", "esco1"), "customer-17", "customer-17", "settlement"),
    )


def test_steward_and_validator_are_the_assignments_where_it_names_them() -> None:
    (term,) = owners(decided(assigned({"owners": ["a", "b"], "steward": "dso", "validator": "mdm"})))
    assert (term.data_owners, term.steward, term.validator) == (("a", "b"), "dso", "mdm")


def test_a_change_counts_from_its_instant_on_and_not_before() -> None:
    until, since = {"until": CHANGE}, {"from": CHANGE}
    site = decided(
        assigned({"owners": ["dso.example"], "valid": until}, {"owners": ["esco1"], "valid": since})
    )
    assert owners_at(owners(site), CHANGED - 1) == ("dso.example",)
    assert owners_at(owners(site), CHANGED) == ("esco1",)


def test_where_the_assignment_names_nobody_nobody_has_it() -> None:
    site = decided(assigned({"owners": ["esco1"], "valid": {"until": CHANGE}}))
    assert owners_at(owners(site), CHANGED) == ()


def test_a_device_that_the_assignment_does_not_name_is_as_the_file_claims() -> None:
    assert owners(decided(assigned({"owners": ["esco1"]}, device="other"))) == owners(decided(None))
    assert owners(decided(None))[0].data_owners == ("dso.example",)


@pytest.mark.parametrize(
    ("override", "data"),
    [
        (["customer-17"], [("customer-17",)]),
        (["customer-17", "aggr1"], [("customer-17",)]),
        (["aggr1"], []),
    ],
)
def test_the_file_keeps_points_from_somebody_and_gives_them_to_nobody_else(
    override: list[str], data: list[tuple[str, ...]]
) -> None:
    keys = f'{CLAIM}[[device.override]]\npoints = ["PhVphA"]\ndata_owners = {override}\n'.replace("'", '"')
    site = decided(assigned({"owners": ["dso.example"], "data_owners": ["dso.example", "customer-17"]}), keys)
    by_point = {group.points[0].name: group.owners for group in site.manifest.groups}
    assert by_point["W"][0].data_owners == ("dso.example", "customer-17")
    assert [term.data_owners for term in by_point["PhVphA"]] == data


def test_numbers_points_and_requests_of_groups_stay() -> None:
    before, after = decided(None), decided(assigned({"owners": ["esco1"]}))
    assert [(g.group, g.points, g.key) for g in before.manifest.groups] == [
        (g.group, g.points, g.key) for g in after.manifest.groups
    ]
    assert [one.requests for one in before.groups] == [one.requests for one in after.groups]
    assert HEAD["gateway"] == before.manifest.gateway
    assert NOW < CHANGED
