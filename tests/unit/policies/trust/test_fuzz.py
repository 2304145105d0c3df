"""Whatever arrives, nothing but a refusal comes of it: bytes at random, and JSON of another shape."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.trust.assignment import open_assignment, seal_assignment
from policies.trust.bundle import pack, unpack
from policies.trust.dsse import keys_in
from policies.trust.publishing import verify_files
from policies.trust.refusals import PolicyRefused
from policies.trust.spool import Place, Spool
from tests.support.policy_world import GATEWAY, World

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("fuzz"))
    world.assign()
    return world


@pytest.fixture(scope="module")
def files(world: World) -> dict[str, bytes]:
    return world.files()


def elsewhere(document: object, draw: st.DataObject) -> object:
    """Return JSON in which one value is another one."""
    value = json.loads(json.dumps(document))
    parent, key, found = None, None, value
    while isinstance(found, dict | list) and found and (parent is None or draw.draw(st.integers(0, 3))):
        keys = sorted(found) if isinstance(found, dict) else list(range(len(found)))
        parent, key = found, draw.draw(st.sampled_from(keys))
        found = found[key]
    if parent is None:
        return draw.draw(JSON)
    parent[key] = draw.draw(JSON)
    return value


@QUICK
@given(raw=st.binary(max_size=400), cut=st.integers(0, 3000), data=st.data())
def test_a_bundle_of_any_bytes(files: dict[str, bytes], raw: bytes, cut: int, data: st.DataObject) -> None:
    bundle = pack(files)
    at = data.draw(st.integers(0, len(bundle)))
    rest = bundle[at:]
    for blob in (raw, bundle[:cut], bundle[:at] + raw + rest, bundle[:at] + raw + rest[len(raw) :]):
        with contextlib.suppress(PolicyRefused):
            unpack(blob)


@QUICK
@given(data=st.data())
def test_metadata_of_any_shape(files: dict[str, bytes], world: World, data: st.DataObject) -> None:
    metadata = sorted(name for name in files if name.startswith("metadata/"))
    name = data.draw(st.sampled_from([*metadata, "metadata/2.root.json"]))
    document = elsewhere(json.loads(files.get(name, files["metadata/1.root.json"])), data)
    changed = {**files, name: json.dumps(document).encode()}
    with contextlib.suppress(PolicyRefused):
        found = verify_files(changed, world.built_in)
        assert found.versions["targets"] == 1
    with contextlib.suppress(PolicyRefused):
        world.gateway.refresh(changed, world.memory, world.now_ms)


@QUICK
@given(data=st.data())
def test_an_assignment_of_any_shape(world: World, data: st.DataObject) -> None:
    keys = keys_in(world.repository.document("policy/assignment-keys.json"), "keys")
    raw = (world.repository.base / "assign" / f"{GATEWAY}.json").read_bytes()
    document = elsewhere(json.loads(raw), data)
    with contextlib.suppress(PolicyRefused):
        found = open_assignment(json.dumps(document).encode(), keys, GATEWAY, 1)
        assert found.sequence == 1


@QUICK
@given(payload=JSON)
def test_a_signed_payload_of_any_shape(world: World, payload: object) -> None:
    """Somebody who has the key signs what is no assignment."""
    keys = keys_in(world.repository.document("policy/assignment-keys.json"), "keys")
    raw = seal_assignment(json.dumps(payload).encode(), world.keys.assignment.signer)
    with pytest.raises(PolicyRefused):
        open_assignment(raw, keys, GATEWAY, 1)


@QUICK
@given(document=JSON)
def test_a_list_of_keys_of_any_shape(document: object) -> None:
    with contextlib.suppress(PolicyRefused):
        keys_in(json.dumps(document).encode(), "keys")
    with contextlib.suppress(PolicyRefused):
        keys_in(json.dumps({"keys": document}).encode(), "keys")


@QUICK
@given(timestamp=st.binary(max_size=200), bundle=st.binary(max_size=200))
def test_a_spool_of_any_bytes(tmp_path: Path, timestamp: bytes, bundle: bytes) -> None:
    spool = Spool(tmp_path, ("mqtt",))
    spool.put("mqtt", Place.TIMESTAMP, timestamp)
    spool.put("mqtt", Place.BUNDLE, bundle)
    for offer in spool.offers():
        assert len(offer.sets) <= 2
