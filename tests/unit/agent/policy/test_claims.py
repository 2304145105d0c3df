"""Claims of ownership in gateway.toml beside what a signed assignment says."""

import pytest

from agent.policy.claims import differing
from policies.assignment import Assignment
from tests.support.config_text import GATEWAY, LINE, parsed

NOW = 1_795_348_800_000

HEAD = {
    "gateway": "gw-0001",
    "sequence": 1,
    "policy_version": 1,
    "issued": "2026-11-15T00:00:00Z",
    "expires": "2027-01-14T00:00:00Z",
}


def assigned(*terms: dict[str, object], device: str = "meter") -> Assignment:
    """Return an assignment with one device."""
    one = {"id": device, "type": "eastron-sdm630", "kind": "meter", "ownership": list(terms)}
    return Assignment.model_validate({"assignment": HEAD, "device": [one]})


def told(assignment: Assignment, keys: str = 'owner = "dso.example"') -> str:
    """Return what differs for the one device of a file."""
    text = (
        f'{GATEWAY}{LINE}[[device]]\nname = "meter"\ntype = "eastron-sdm630"\nline = "lan"\nunit_id = 1\n'
        f'every = "10s"\n{keys}\n'
    )
    return differing(parsed(text).devices, assignment, NOW).get("meter", "")


def test_a_claim_that_the_assignment_shares_is_no_matter() -> None:
    assert told(assigned({"owners": ["dso.example"]})) == ""
    joint = assigned({"owners": ["dso.example", "customer-17"], "data_owners": ["dso.example"]})
    assert told(joint) == ""


@pytest.mark.parametrize(
    ("term", "keys", "sentence"),
    [
        ({"owners": ["customer-17"]}, 'owner = "dso.example"', "the assignment customer-17"),
        (
            {"owners": ["dso.example"], "data_owners": ["dso.example", "esco1"]},
            'owner = "dso.example"',
            "the assignment to dso.example and esco1",
        ),
        (
            {"owners": ["dso.example"]},
            'owner = "dso.example"\ndata_owners = ["esco1"]',
            "the file gives its data to esco1",
        ),
        (
            {"owners": ["dso.example"], "valid": {"until": "2026-11-22T12:00:00Z"}},
            'owner = "dso.example"',
            "the assignment says nobody now",
        ),
        (
            {"owners": ["dso.example"]},
            'owner = "dso.example"\n[[device.override]]\npoints = ["W"]\nowner = "esco1"',
            "the file says esco1",
        ),
    ],
)
def test_a_claim_that_differs_is_told(term: dict[str, object], keys: str, sentence: str) -> None:
    assert sentence in told(assigned(term), keys)


def test_a_device_that_the_assignment_does_not_name_is_told() -> None:
    assert "nobody now" in told(assigned({"owners": ["dso.example"]}, device="other"))


def test_a_claim_that_is_not_valid_now_is_no_claim() -> None:
    keys = '[[device.ownership]]\nowner = "esco1"\nvalid_to = 2026-01-01T00:00:00Z'
    assert told(assigned({"owners": ["dso.example"]}), keys) == ""


def test_points_that_are_kept_from_somebody_are_no_claim_that_differs() -> None:
    both = assigned({"owners": ["dso.example"], "data_owners": ["dso.example", "customer-17"]})
    keys = 'owner = "dso.example"\ndata_owners = ["dso.example", "customer-17"]\n[[device.override]]\n'
    assert told(both, f'{keys}points = ["W"]\ndata_owners = ["customer-17"]') == ""
    assert "customer-18" in told(both, f'{keys}points = ["W"]\ndata_owners = ["customer-18"]')
