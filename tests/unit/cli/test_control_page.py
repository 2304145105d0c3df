"""docs/control.md says what the code does: the states, the operator's file, the commands typed."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.control.life import FOLLOWS, State
from cli.command_operator import OperatorFile
from cli.command_steps import OTHER_CODES
from cli.main import COMMANDS, entry
from policies.grant import Verb
from policies.reasons import reasons

PAGE = (Path(__file__).parents[3] / "docs" / "control.md").read_text("utf-8")
ROW = re.compile(r"^\| `([a-z]+)` \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for found, text in fences if found == language]


def test_the_table_of_states_is_the_table_of_the_code() -> None:
    told = {state: set(re.findall(r"`([a-z]+)`", next_)) for state, next_ in ROW.findall(PAGE)}
    assert told == {state.value: {one.value for one in next_} for state, next_ in FOLLOWS.items()}
    assert set(told) == {state.value for state in State}


def test_the_operator_s_file_is_one_that_is_read() -> None:
    [text] = blocks("toml")
    file = OperatorFile.model_validate(tomllib.loads(text))
    assert (file.operator.individual, file.broker.url) == ("op-17", "mqtts://broker.example:8883")


def test_the_command_that_sends_is_one_that_may_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(blocks("")[0].replace("\\\n", ""))[1:]
    result = CliRunner().invoke(entry(words), [*words, "--dry-run", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["duration"] == "30min"


def test_every_command_on_the_page_exists() -> None:
    for line in "\n".join(blocks("")).replace("\\\n", "").splitlines():
        if not line.startswith("portico "):
            continue
        words = shlex.split(line, comments=True)[1:]
        assert words[0] in COMMANDS
        named = [word for word in words if word.startswith("--")]
        shown = CliRunner().invoke(entry(words), [*_path(words), "--help"], terminal_width=200).stdout
        assert [word for word in named if word not in shown] == []


def _path(words: list[str]) -> list[str]:
    return words[:1] if words[0] == "optout" else words[:2]


def test_every_code_on_the_page_is_one_that_is_explained() -> None:
    known = {*reasons(), *OTHER_CODES, *(state.value for state in State), *(verb.value for verb in Verb)}
    codes = {code for _, code in re.findall(r"`(restoring|left)`, `([a-z-]+)`", PAGE)} | set(
        re.findall(r"\(`([a-z-]+)`[;)]", PAGE)
    )
    assert {"opted-out", "contact-lost", "retained", "goes-on"} <= codes
    assert codes - known == set()
