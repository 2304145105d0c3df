"""Manifests: named by their bytes, read strictly, and cut to what an entity may see."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import WireError
from core.ids import is_hash
from core.manifest import Group, Manifest, Point, ValueKind, decode_manifest, manifest_fault
from core.ownership import Ownership
from tests.unit.core.wire_made import manifests

DSO = Ownership("owner.example", ("dso.example",), "dso.example", "dso.example", valid_to_ms=1000)
BOTH = Ownership("owner.example", ("dso.example", "esco.example"), "dso.example", "dso.example", "", 1000)
VOLTAGE = Point("v1", "PhVphA", "V", ValueKind.INTEGER, -1)
ENERGY = Point("wh", "TotWhImp", "Wh", ValueKind.INTEGER, 1, 1, True)
MANIFEST = Manifest(
    "gw-0001",
    (
        Group(1, "main-meter", "made-up", 10_000, (VOLTAGE, ENERGY), (DSO, BOTH), 2, x={"ratios": {"1": 80}}),
        Group(2, "relay", "made-up", 1000, (VOLTAGE,), (Ownership("a", ("dso.example",), "a", "a"),)),
    ),
    x={"plan": "learned"},
)


def test_name_of_a_manifest_is_the_hash_of_its_bytes_and_stays() -> None:
    # The bytes are part of the wire: this name may change only with the version.
    assert Manifest("gw-0001", ()).encode() == b'{"gateway":"gw-0001","groups":[]}'
    assert MANIFEST.hash() == "0c3ec60e11e33c08df61842da209768c"
    assert is_hash(MANIFEST.hash())


@given(manifests())
def test_manifest_reads_back_with_the_same_name(manifest: Manifest) -> None:
    again = decode_manifest(manifest.encode())
    assert again == manifest
    assert again.hash() == manifest.hash()
    assert manifest_fault(manifest) is None


@given(manifests(), manifests())
def test_different_manifests_have_different_names(one: Manifest, two: Manifest) -> None:
    assert (one.hash() == two.hash()) is (one.encode() == two.encode())


@given(manifests(), st.data())
def test_view_shows_the_groups_and_terms_of_the_entity_and_no_others(
    manifest: Manifest, data: st.DataObject
) -> None:
    known = sorted({entity for group in manifest.groups for entity in group.entities()})
    entity = data.draw(st.sampled_from([*known, "stranger.example"]))
    view = manifest.view(entity)
    assert [group.group for group in view.groups] == [
        group.group for group in manifest.groups if entity in group.entities()
    ]
    for group in view.groups:
        whole = manifest.group_by_number()[group.group]
        assert group.owners == tuple(term for term in whole.owners if entity in term.data_owners)
        assert msgspec.structs.replace(group, owners=whole.owners) == whole
    assert manifest_fault(view) is None
    assert view.view(entity) == view
    assert view.x == {}


def test_joint_owners_have_each_their_view() -> None:
    assert [len(group.owners) for group in MANIFEST.view("dso.example").groups] == [2, 1]
    assert [group.owners for group in MANIFEST.view("esco.example").groups] == [(BOTH,)]
    assert MANIFEST.view("owner.example").groups == ()  # owns a device, and none of its data
    assert MANIFEST.view("dso.example").hash() != MANIFEST.view("esco.example").hash()


def test_group_is_known_by_a_key_that_survives_renumbering() -> None:
    assert [group.key for group in MANIFEST.groups] == ["main-meter/10000/v1", "relay/1000/v1"]


def raw(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(MANIFEST.encode())
    change(document)
    return json.dumps(document).encode()


def first(document: dict[str, Any]) -> dict[str, Any]:
    group: dict[str, Any] = document["groups"][0]
    return group


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(v=2), "version 2"),
        (lambda d: d.update(colour=1), "colour"),
        (lambda d: d.pop("gateway"), "gateway"),
        (lambda d: first(d).update(group=2), "group number 2 is used twice"),
        (lambda d: first(d).update(group=0), ">= 1"),
        (lambda d: first(d).update(group=True), "bool"),
        (lambda d: first(d).update(points=[]), "no points"),
        (lambda d: first(d).update(every_ms=0), ">= 1"),
        (lambda d: first(d).update(phase_ms=10_000), "phase"),
        (lambda d: first(d).update(requests=1), "request"),
        (lambda d: first(d).update(requests=0), ">= 1"),
        (lambda d: first(d)["points"][1].update(name="v1"), "names a point twice"),
        (lambda d: first(d)["points"][0].update(exp=19), "<= 18"),
        (lambda d: first(d)["points"][0].update(kind="float"), "float"),
        (lambda d: first(d)["points"][0].update(colour=1), "colour"),
        (lambda d: first(d)["owners"][0].update(data_owners="dso.example"), "array"),
        (lambda d: first(d)["owners"][0].update(valid_to_ms=10**17), "<="),
    ],
)
def test_manifest_that_cannot_be_is_refused(
    change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    with pytest.raises(WireError, match="manifest") as caught:
        decode_manifest(raw(change))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"\xff", b'{"gateway":' + b"[" * 100_000, MANIFEST.encode() + b"x"]
)
def test_what_is_no_manifest_is_refused(bad: bytes) -> None:
    with pytest.raises(WireError, match="not a manifest: "):
        decode_manifest(bad)


def test_contradictions_are_found_in_a_manifest_that_was_not_read() -> None:
    group = MANIFEST.groups[0]
    for wrong in (
        msgspec.structs.replace(group, group=0),
        msgspec.structs.replace(group, phase_ms=-1),
        msgspec.structs.replace(group, points=(msgspec.structs.replace(VOLTAGE, exp=-19),)),
        msgspec.structs.replace(group, points=(msgspec.structs.replace(VOLTAGE, request=2),)),
    ):
        assert manifest_fault(Manifest("gw-0001", (wrong,))) is not None
