"""What a person did on the box with a command comes into the audit, and stays until it is there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import acts
from cli.main import entry
from core.errors import AuditUnavailable

Entries = list[tuple[str, dict[str, object]]]


async def taken(directory: Path) -> list[dict[str, object]]:
    found: Entries = []

    async def audited(kind: str, body: dict[str, object]) -> None:
        found.append((kind, body))

    await acts.take(directory, audited)
    assert {kind for kind, _ in found} <= {"act"}
    return [body for _, body in found]


async def test_acts_are_taken_in_their_order_once_and_say_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "portico")
    monkeypatch.setenv("SUDO_USER", "anna")
    acts.leave(tmp_path, "forget", device="meter")
    acts.leave(tmp_path, "optout", now="wh-01")
    found = sorted(await taken(tmp_path), key=lambda body: str(body["act"]))
    assert [(body["act"], body["by"]) for body in found] == [
        ("forget", "portico (sudo: anna)"),
        ("optout", "portico (sudo: anna)"),
    ]
    assert isinstance(found[0]["at"], int)
    assert found[0]["device"] == "meter"
    assert await taken(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_the_oldest_act_comes_first(tmp_path: Path) -> None:
    for at in (9, 10, 8):
        (tmp_path / f"act-{at:013}-00.json").write_text(json.dumps({"at": at}))
    assert [body["at"] for body in await taken(tmp_path)] == [8, 9, 10]


async def test_an_act_stays_while_the_audit_cannot_be_written(tmp_path: Path) -> None:
    acts.leave(tmp_path, "forget", device="meter")

    async def refused(kind: str, body: dict[str, object]) -> None:
        raise AuditUnavailable("the disk is full")

    await acts.take(tmp_path, refused)
    assert [body["act"] for body in await taken(tmp_path)] == ["forget"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1]", b"\xff", b"[" * 4000, b'{"act": "%s"}' % (b"x" * acts.LONGEST)]
)
async def test_what_is_no_act_is_told_as_that(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "act-0000000000001-00.json"
    path.write_bytes(raw)
    assert await taken(tmp_path) == [{"act": "unreadable", "file": path.name}]
    assert not path.exists()


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"act": "secret"}')
    (tmp_path / "act-1.json").symlink_to(tmp_path / "secret")
    assert await taken(tmp_path) == [{"act": "unreadable", "file": "act-1.json"}]
    assert (tmp_path / "secret").exists()


async def test_a_flood_is_taken_in_parts(tmp_path: Path) -> None:
    for number in range(acts.AT_ONCE + 5):
        (tmp_path / f"act-{number:013}-00.json").write_text("{}")
    assert len(await taken(tmp_path)) == acts.AT_ONCE
    assert len(await taken(tmp_path)) == 5


def test_an_act_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    acts.leave(tmp_path / "gone", "forget")


async def test_the_no_at_the_box_leaves_word(tmp_path: Path) -> None:
    command = ["optout", "--data-dir", str(tmp_path), "--device", "wh-01"]
    assert CliRunner().invoke(entry(command), command).exit_code == 0
    command = ["optout", "--data-dir", str(tmp_path), "--clear"]
    assert CliRunner().invoke(entry(command), command).exit_code == 0
    command = ["optout", "--data-dir", str(tmp_path)]
    assert CliRunner().invoke(entry(command), command).exit_code == 0
    assert [(body["act"], body["now"]) for body in await taken(tmp_path)] == [
        ("optout", "wh-01"),
        ("optout --clear", ""),
    ]
