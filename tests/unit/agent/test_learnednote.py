"""What was learned is kept for a device as long as it is the same, and no longer."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.learnednote import (
    KEY,
    Known,
    ask_to_forget,
    decode,
    encode,
    forgotten,
    read_note,
    to_forget,
    version_of,
)
from drivers.modbus.learned import Largest, Learned, Refusal
from drivers.points import Table
from drivers.types import load_type
from tests.unit.agent.store.store_made import opened

LEARNED = Learned(
    (Refusal(Table.HOLDING, 4, 5, "exception-2"), Refusal(Table.COIL, 0, 0, "timeout")),
    (Largest(Table.HOLDING, 50),),
)
KNOWN = {"meter": Known("eastron-sdm630", "v1", LEARNED)}


def test_a_note_reads_back_to_what_was_learned() -> None:
    assert decode(encode(KNOWN), {"meter": ("eastron-sdm630", "v1")}) == KNOWN


@pytest.mark.parametrize(
    "now", [{}, {"meter": ("eastron-sdm120", "v1")}, {"meter": ("eastron-sdm630", "v2")}]
)
def test_another_type_or_version_forgets(now: dict[str, tuple[str, str]]) -> None:
    assert decode(encode(KNOWN), now) == {}


@pytest.mark.parametrize("note", ["", "[]", '{"meter": 1}', '{"meter": {"type": "x"}}'])
def test_a_note_that_is_none_forgets(note: str) -> None:
    assert decode(note, {"meter": ("eastron-sdm630", "v1")}) == {}


def test_the_version_of_a_type_changes_with_its_limits_and_points_alone() -> None:
    kind = load_type("eastron-sdm630")
    version = version_of(kind)
    assert version == version_of(kind.model_copy(update={"description": "another"}))
    shorter = kind.limits.model_copy(update={"max_registers": 20})
    assert version != version_of(kind.model_copy(update={"limits": shorter}))
    assert version != version_of(kind.model_copy(update={"points": kind.points[1:]}))


async def test_the_control_file_keeps_the_note_also_while_it_is_open(tmp_path: Path) -> None:
    same = {"meter": ("eastron-sdm630", "v1")}
    assert read_note(tmp_path, same) == {}
    async with opened(tmp_path) as store:
        assert read_note(tmp_path, same) == {}
        await store.call(store.control, lambda file: file.set_meta(KEY, encode(KNOWN)))
        assert read_note(tmp_path, same) == KNOWN
    assert read_note(tmp_path, same) == KNOWN


def test_a_control_file_that_cannot_be_read_forgets(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"no database" * 1000)
    assert read_note(tmp_path, {"meter": ("eastron-sdm630", "v1")}) == {}
    (tmp_path / "control.db").unlink()
    with closing(sqlite3.connect(tmp_path / "control.db")) as db:
        db.execute("CREATE TABLE other (one)")
    assert read_note(tmp_path, {"meter": ("eastron-sdm630", "v1")}) == {}


def test_a_request_to_forget_lies_in_the_directory_until_it_is_done(tmp_path: Path) -> None:
    assert to_forget(tmp_path / "missing") == []
    request = ask_to_forget(tmp_path, "main-meter")
    assert to_forget(tmp_path) == ["main-meter"]
    forgotten(tmp_path, "main-meter")
    assert not request.exists()
    forgotten(tmp_path, "main-meter")
