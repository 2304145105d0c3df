"""`portico policy`: the table, all faults, and a question answered with every reason."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cli.main import main

EXAMPLES = Path(__file__).parents[3] / "policies" / "examples"
FILES = [str(path) for path in sorted(EXAMPLES.glob("*.toml"))]
NOW = ["--now", "2026-11-23T15:00:00Z"]
SHED = ["--who", "esco1/op-17", "--verb", "shed", "--device", "wh-01", *NOW]
URGENT = ["--who", "dso.example/chief", "--verb", "shed", "--device", "wh-01", "--emergency"]
URGENT += ["--purpose", "grid-emergency"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["policy", *arguments])
    told = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), told.out, told.err


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, "explain", *FILES, *arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_policy_is_printed_as_the_table_of_the_use_case(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", *FILES)
    assert code == 0
    for cell in ("from actor", "verb", "to actor", "constraint", "shall not", "mandatory: no opt-out", "k"):
        assert cell in out
    for line in ("signed enrolment form 2026-117", "esco1-op-17-2026", "assignment of gw-0001"):
        assert line in out


def test_a_policy_is_shown_to_programs_as_table_and_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", str(EXAMPLES / "policy.toml"), "--json")
    assert code == 0
    found = json.loads(out)[0]
    row = found["table"][2]
    assert (row["from_actor"], row["modality"], row["verb"], row["to_actor"]) == (
        "dso.example",
        "shall",
        "shed or limit",
        "in feeder-7",
    )
    assert "only in an emergency: 2 individuals sign, at most 1h, setting aside window" in row["constraints"]
    assert found["document"]["policy"]["version"] == 3


def test_constraints_are_printed_one_by_one_with_their_type(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "--constraints", str(EXAMPLES / "policy.toml"), FILES[-1])
    assert code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert ["esco1-water-heaters", "budget", "2 a day", "esco1: shed water-heater"] in rows
    assert "roster of esco1" in out
    _, out, _ = run(capsys, "show", str(EXAMPLES / "policy.toml"), "--json")
    found = json.loads(out)[0]
    texts = [text for row in found["table"] for text in row["constraints"]]
    assert [one["description"] for one in found["constraints"] if one["type"] != "device"] == texts
    assert {one["applies_to"] for one in found["constraints"] if one["type"] == "device"} == {
        "anybody: shed LoadShed of water-heater behind generic-load-relay",
        "anybody: limit ALimit of heidelberg-energy-control",
    }


def test_faults_of_several_documents_are_told_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "policy.toml"
    bad.write_text(
        (EXAMPLES / "policy.toml").read_text("utf-8").replace('may = ["shed"]', 'may = ["shad"]'), "utf-8"
    )
    code, out, err = run(capsys, "check", str(bad), str(tmp_path / "none.toml"))
    assert (code, out) == (2, "")
    assert 'policy.toml: grant[1] "esco1-water-heaters" may[1]: must be' in err
    assert "none.toml cannot be read" in err
    code, out, _ = run(capsys, "check", str(bad), "--json")
    assert code == 2
    assert len(json.loads(out)["faults"]) == 1
    assert run(capsys, "check", *FILES) == (0, "5 documents, 4 grants, no fault\n", "")


def test_a_question_is_answered_with_yes_and_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, *SHED, "--at", "tomorrow 17:00")
    assert found["allowed"]
    assert found["plan"]["begin"] == "2026-11-24T22:00:00Z"
    assert found["plan"]["latest_end"] == "2026-11-24T23:07:00Z"
    assert found["filled_in"] == [
        "application dr-hub",
        "gateway gw-0001",
        "point LoadShed",
        "for 1h",
        "value 1",
        "purpose peak",
    ]
    assert len(found["taken_for_granted"]) == 14


def test_a_question_is_answered_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", *FILES, *SHED, "--at", "21:00")
    assert code == 0
    assert out.startswith("No: op-17 of esco1 (dr-hub) may not shed wh-01 LoadShed at gw-0001 to 1 on Mon ")
    assert "  ✗ window: Mon 2026-11-23 22:00 EST lies outside of its windows (AddCause 9, 2030.5 253)" in out
    assert "esco1-water-heaters: 1 not met" in out
    assert "aggr1-ev: does not speak of it" in out


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["--at", "2026-11-26T17:00:00-05:00"], {"denied", "window", "lead-time"}),
        (["--for", "100min"], {"duration"}),
        (["--who", "esco1/clerk-2"], {"role", "not-signed", "roster-ended"}),
        (["--unknown", "opt_outs"], {"opted-out"}),
        (["--unknown", "time", "--unknown", "used"], {"clock-unsure", "too-late", "budget"}),
        (["--gateway", "gw-0002"], {"no-assignment"}),
        (["--purpose", "fun"], {"purpose"}),
    ],
)
def test_every_unmet_condition_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], codes: set[str]
) -> None:
    found = explained(capsys, *SHED, *arguments)
    assert not found["allowed"]
    assert set(found["codes"]) >= codes


def test_the_document_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    document = (EXAMPLES.parents[1] / "docs" / "policy.md").read_text("utf-8")
    shown = re.findall(r"```console\n\$ portico policy explain \*\.toml (.*?)\n(.*?)```", document, re.DOTALL)
    assert len(shown) == 2
    for arguments, printed in shown:
        _, out, _ = run(capsys, "explain", *FILES, *shlex.split(arguments))
        lines = [line for line in printed.splitlines() if line != "..."]
        assert lines
        assert all(line in out.splitlines() for line in lines)


def test_an_emergency_needs_the_second_individual(capsys: pytest.CaptureFixture[str]) -> None:
    alone = explained(capsys, *URGENT, *NOW)
    assert set(alone["codes"]) >= {"two-signatures", "window"}
    both = explained(capsys, *URGENT, "--cosigner", "deputy", *NOW)
    assert both["allowed"]
    assert both["plan"]["bypassed"] == ["window"]


FACTS = """
freshness = "stale"
locked_out = true
present = 12
unsigned = ["aggr1-ev"]
opt_out = [{ device = "ev-01" }]
[[used]]
grant = "aggr1-ev"
device = "ev-01"
unit = "day"
first = "2026-11-23"
controls = 1
total = "5h30min"
[[running]]
command = "x"
entity = "esco1"
begin = 2026-11-23T14:00:00Z
end = 2026-11-23T16:00:00Z
level = 9
"""


def test_stated_facts_take_the_place_of_fair_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "facts.toml"
    path.write_text(FACTS.replace("5h30min", "330min"), "utf-8")
    found = explained(
        capsys, "--who", "aggr1/balancer", "--verb", "limit", "--device", "ev-01", "--value", "8", *NOW,
        "--facts", str(path),
    )  # fmt: skip
    assert set(found["codes"]) >= {
        "locked-out",
        "not-agreed",
        "budget",
        "opted-out",
        "busy",
        "policy-stale",
    }
    assert "the local lock-out is off" not in found["taken_for_granted"]
    assert "no budget is used" not in found["taken_for_granted"]
    path.write_text(FACTS, "utf-8")
    code, _, err = run(capsys, "explain", *FILES, *SHED, "--facts", str(path))
    assert code == 2
    assert 'facts.toml: used[1] total: "5h30min" is no duration' in err


def test_a_cancellation_can_be_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    cancel = ["--verb", "cancel", "--device", "wh-01", "--cancels", "c-9", *NOW]
    assert explained(capsys, "--who", "dso.example/chief", *cancel)["allowed"]
    assert explained(capsys, "--who", "aggr1/balancer", *cancel)["codes"] == ["not-yours"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--who", "esco1"], "write entity/application/individual"),
        (["--who", "esco9/op-17"], "esco9 has these applications: none that the policy names"),
        (["--at", "noon"], '"noon" is no time: write now, 17:00'),
        (["--at", "25:00"], '"25:00" is no time'),
        (["--device", "wh-77"], "points of wh-77 for shed: none; name one with --point"),
        (["--for", "1 hour"], 'duration: "1 hour" is no duration'),
        (["--unknown", "weather"], 'there is no fact "weather"'),
        (["--now", "today"], "--now must be a date and time with offset"),
        (["--facts", "/nonexistent"], "/nonexistent cannot be read"),
    ],
)
def test_a_question_that_cannot_be_put_says_how_to_put_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    code, out, err = run(capsys, "explain", *FILES, *SHED, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
