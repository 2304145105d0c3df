"""A policy that is kept in a folder, shown and explained from there: the document's example is typed."""

import json
import logging
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cli.main import main

DOCUMENT = Path(__file__).parents[3] / "docs" / "policy-distribution.md"
NOW_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z
FILES = ("esco1.toml", "esco1-water-heaters.toml", "gw-0001.toml")
ASK = "explain policy --who esco1/op-17 --verb shed --device wh-01 --at 'tomorrow 17:00'"
ASK += " --now 2026-11-23T15:00:00Z"


class Desk:
    """Types commands where the example's files lie."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = DOCUMENT.read_text("utf-8").partition("## Keeping a policy")[2].partition("### On the")[0]
        for name, block in zip(FILES, re.findall(r"```toml\n(.*?)```", text, re.DOTALL), strict=True):
            Path(name).write_text(block, "utf-8")
        block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
        assert block is not None
        self.lines = [line.removeprefix("portico policy ") for line in block[1].splitlines()]
        self.shown = re.findall(r"```console\n\$ portico policy (.*?)\n(.*?)```", text, re.DOTALL)
        self.capsys = capsys

    def type(self, line: str) -> tuple[int, str, str]:
        """Type a command; return its exit code and what it printed."""
        with pytest.raises(SystemExit) as left:
            main(["policy", *shlex.split(line, comments=True)])
        told = self.capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, told.out, told.err

    def until(self, word: str) -> None:
        """Type the example's lines up to the first that begins so, without that."""
        for line in self.lines:
            if line.startswith(word):
                return
            code, _, err = self.type(line)
            assert (code, err) == (0, ""), line
        raise AssertionError(f"the example has no line {word}")

    def answer(self, more: str = "") -> dict[str, object]:
        """Ask the example's question for programs."""
        code, out, err = self.type(f"{ASK} {more} --json")
        assert (code, err) == (0, "")
        found: dict[str, object] = json.loads(out)
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    for module in ("trust_cli", "trust_publish", "trust_consents"):
        monkeypatch.setattr(f"policies.{module}.now_ms", lambda: NOW_MS)
    return Desk(capsys)


def test_the_documents_example_is_kept_shown_and_explained_from_its_folder(desk: Desk) -> None:
    desk.until("verify")
    ((command, printed),) = desk.shown
    code, out, _ = desk.type(command)
    lines = [line for line in printed.splitlines() if line != "..."]
    assert code == 0
    assert lines
    assert [line for line in lines if line not in out.splitlines()] == []
    code, out, _ = desk.type(next(line for line in desk.lines if line.startswith("show")))
    assert code == 0
    for word in ("esco1-water-heaters", "roster of esco1", "assignment of gw-0001", "form 117"):
        assert word in out


def test_who_signed_each_grant_is_printed_when_it_is_complete(desk: Desk) -> None:
    desk.until("verify")
    _, out, _ = desk.type("verify policy")
    words = " ".join(re.sub("[│┃]", " ", out).split())
    for word in ("esco1-water-heaters", "dso.example", "esco1", "nobody"):
        assert word in words


def test_a_bundle_and_an_assignment_are_looked_at_as_they_are_sent(desk: Desk, tmp_path: Path) -> None:
    desk.until("verify")
    asked = ASK.replace("explain policy", "explain policy/out/bundle.zip")
    assert desk.type(asked)[1].startswith("Yes: op-17 of esco1")
    code, out, _ = desk.type("show policy/out/assign/gw-0001.json")
    assert code == 0
    assert "assignment of gw-0001" in out
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy("policy/out/bundle.zip", tmp_path / "deep" / "er" / "alone.zip")
    code, _, err = desk.type("show deep/er/alone.zip")
    assert code == 2
    assert "root.json is not there" in err


def test_what_the_signatures_lack_is_the_answer(desk: Desk) -> None:
    desk.until("sign policy --key esco1-1.key")
    desk.type("publish policy")
    desk.type("assign policy gw-0001 gw-0001.toml")
    found = desk.answer()
    assert found["allowed"] is False
    assert "the utility and the entity have signed every grant" not in _texts(found["taken_for_granted"])
    codes = {"unknown-individual", "not-agreed", "no-consent"}
    assert codes <= set(_texts(found["codes"]))
    assert desk.answer("--draft")["allowed"] is True
    assert "drafts of esco1 wait for signatures: --draft looks at them" in _texts(found["notes"])


def test_an_assignment_for_a_later_policy_does_not_count_yet(desk: Desk) -> None:
    desk.until("sign policy --key policy/keys/targets-3")
    desk.type("assign policy gw-0001 gw-0001.toml")
    code, out, _ = desk.type("show policy --gateway gw-0001")
    assert code == 0
    assert "the assignment of gw-0001 does not count: assignment 1 needs version 2" in out
    assert "assignment of gw-0001 number" not in out


def test_a_gateway_without_an_assignment_is_told(desk: Desk) -> None:
    desk.until("verify")
    found = desk.answer("--gateway gw-0002 --point LoadShed")
    assert "gw-0002 has no assignment here" in _texts(found["notes"])
    assert found["allowed"] is False


def test_a_question_that_cannot_be_put_says_which_state_was_looked_at(desk: Desk) -> None:
    desk.until("sign")
    code, _, err = desk.type(ASK)
    assert code == 2
    assert "esco1 has these applications: none that the policy names" in err
    assert "drafts of targets, esco1 wait for signatures: --draft looks at them" in err
    code, _, err = desk.type(f"{ASK} --draft --gateway gw-0001")
    assert code == 2
    assert "points of wh-01 for shed: none" in err
    assert "gw-0001 has no assignment here" in err


def test_a_roster_before_its_applications_says_how_to_name_them(desk: Desk) -> None:
    desk.until("add-entity")
    code, _, err = desk.type("add-entity policy esco1 --public esco1-1.pub --roster esco1.toml")
    assert code == 2
    assert "none yet, name them in the policy first (add-entity --application)" in err
    code, _, err = desk.type("add-entity policy esco1 --application dr-hub --roster esco1.toml")
    assert (code, err) == (0, "")


def test_a_part_of_a_policy_says_where_it_can_be_looked_at(desk: Desk) -> None:
    code, _, err = desk.type("show esco1-water-heaters.toml")
    assert code == 2
    assert "once portico policy grant put it there" in err


def test_looking_at_a_policy_logs_no_line_of_the_library(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        desk.until("show")
    assert [one.getMessage() for one in caplog.records if one.name.startswith(("tuf", "secure"))] == []


def _texts(found: object) -> list[str]:
    assert isinstance(found, list)
    return [str(one) for one in found]
