"""Parts of a policy as people write them, made into the one document that is signed."""

import json
from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from core.errors import ConfigError
from policies.trust.contents import (
    HEAD,
    LONGEST_PART,
    agreed_document,
    canonical,
    grants_of,
    merged,
    part_name,
    read_part,
    stamped,
)
from policies.trust.instants import as_datetime, instant_text, parse_instant

FIRST = {HEAD: {"policy": {"id": "fleet", "utility": "dso"}, "entity": [{"id": "dso", "kind": "utility"}]}}


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml, plain = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text(
        "n = 0.5\nat = 2026-11-22T12:00:00+02:00\nday = 2026-11-22\nclock = 06:30:00\nlist = [{ a = 1.25 }]\n"
    )
    plain.write_text(
        '{"n": 0.5, "at": "2026-11-22T10:00:00Z", "day": "2026-11-22", "clock": "06:30", '
        '"list": [{"a": 1.25}]}'
    )
    assert read_part(toml) == read_part(plain)
    assert read_part(toml)["n"] == "0.5"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.toml", b"x = ", "is not valid"),
        ("a.toml", b"\xff", "UTF-8"),
        ("a.toml", b"at = 2026-11-22T12:00:00", "needs an offset"),
        ("a.json", b"[1]", "holds no tables"),
        ("a.json", b"{", "is not valid"),
        ("a.toml", b"#" * (LONGEST_PART + 1), "is it really a part"),
    ],
)
def test_a_part_that_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        read_part(tmp_path / name)


def test_lists_of_parts_are_put_one_behind_the_other_in_the_order_of_their_names() -> None:
    found = merged({"b": {"grant": [2]}, "a": {"grant": [1]}, **FIRST})
    assert found["grant"] == [1, 2]


def test_a_part_says_more_of_head_and_entities() -> None:
    part = {"policy": {"zone": "UTC"}, "entity": [{"id": "dso", "name": "D"}, {"id": "esco"}]}
    found = merged({**FIRST, "a": part})
    assert found["policy"] == {"id": "fleet", "utility": "dso", "zone": "UTC"}
    assert found["entity"] == [{"id": "dso", "name": "D"}, {"id": "esco"}]


def test_an_entity_that_two_parts_name_stands_twice_for_the_language_to_tell() -> None:
    found = merged({**FIRST, "a": {"entity": [{"id": "x"}]}, "b": {"entity": [{"id": "x"}]}})
    assert found["entity"] == [{"id": "dso", "kind": "utility"}, {"id": "x"}, {"id": "x"}]


def test_parts_that_contradict_each_other_are_told() -> None:
    with pytest.raises(ConfigError, match="of the utility other"):
        merged({**FIRST, "a": {"policy": {"utility": "other"}}})
    with pytest.raises(ConfigError, match="again"):
        merged({"a": {"x": 1}, "b": {"x": 2}})


def test_the_stamp_is_that_of_the_list_and_nothing_of_the_file_stays_of_it() -> None:
    role = Targets(version=7, expires=as_datetime(2_000_000_000_000))
    given = {"policy": {"id": "p", "version": 99, "issued": "then", "expires": "never", "format": 2}}
    found = stamped(given, "policy", role, 1_900_000_000_999)
    assert found["policy"] == {
        "format": 2,
        "id": "p",
        "version": 7,
        "issued": "2030-03-17T17:46:40Z",
        "expires": "2033-05-18T03:33:20Z",
    }
    with pytest.raises(ConfigError, match=r"no table \[policy\]"):
        stamped({}, "policy", role, 0)


def test_what_an_entity_agrees_to_is_its_own_and_what_asks_it() -> None:
    rows = [{"id": "c", "from": "x"}, {"id": "a", "from": "y"}, {"id": "b", "from": "x"}]
    policy = canonical({"policy": {"utility": "dso"}, "grant": rows})
    listed = json.loads(agreed_document("x", grants_of(policy), {"a": ("x", "z")}))
    assert [one["id"] for one in listed["grants"]] == ["a", "b", "c"]
    assert listed["entity"] == "x"
    nobody = json.loads(agreed_document("w", grants_of(policy), {}))
    assert nobody.get("grants", []) == []


def test_grants_without_an_id_are_told() -> None:
    with pytest.raises(ConfigError, match="an id of its own"):
        grants_of(canonical({"policy": {"utility": "dso"}, "grant": [{"from": "x"}]}))


def test_a_part_is_named_by_its_file_or_as_it_is_told() -> None:
    assert part_name(Path("x/esco1.toml"), None) == "esco1"
    assert part_name(Path("x/a b.toml"), "ab") == "ab"
    for path, name in (("a b.toml", None), ("a.toml", HEAD), ("a.toml", "a/b")):
        with pytest.raises(ConfigError):
            part_name(Path(path), name)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "2026-11-22",
        "2026-11-22T10:00:00",
        "2026-11-22T10:00:00+00:00",
        "2026-11-22T10:00:00.5Z",
        "2026-13-22T10:00:00Z",
        "2026-11-22t10:00:00Z",
        "２026-11-22T10:00:00Z",
        "2026-11-22T10:00:00Z\n",
    ],
)
def test_an_instant_is_written_in_one_way(text: object) -> None:
    assert parse_instant(text) is None


def test_an_instant_reads_back() -> None:
    assert parse_instant("2026-11-22T12:00:00Z") == 1_795_348_800_000
    assert instant_text(1_795_348_800_999) == "2026-11-22T12:00:00Z"
