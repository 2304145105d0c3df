"""Applications of one site know nothing of each other: what one is told does not change when another goes."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from policies.reading import canonical, read_document

EXAMPLES = Path(__file__).parents[3] / "policies" / "examples"
QUESTION = ["--who", "esco1/op-17", "--verb", "shed", "--device", "wh-01", "--now", "2026-11-23T15:00:00Z"]
GONE = {"aggr1", "aggr1-ev"}


def without_the_aggregator(directory: Path) -> list[str]:
    """Write the examples without the aggregator: its entity, its row, its people, what is selected of it."""
    paths = []
    for path in sorted(EXAMPLES.glob("*.toml")):
        plain: dict[str, Any] = json.loads(canonical(read_document(path)))
        if plain.get("roster", {}).get("entity") in GONE:
            continue
        for key, value in plain.items():
            if isinstance(value, list):
                plain[key] = [one for one in value if not {one.get("id"), one.get("grant")} & GONE]
        paths.append(directory / f"{path.stem}.json")
        paths[-1].write_text(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    assert len(paths) == 4
    assert not any("aggr1" in path.read_text() for path in paths)
    return [str(path) for path in paths]


@pytest.mark.parametrize("at", ["tomorrow 17:00", "21:00", "2026-11-26T17:00:00-05:00"])
def test_taking_one_application_away_changes_no_answer_to_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, at: str
) -> None:
    answers = []
    for files in ([str(path) for path in sorted(EXAMPLES.glob("*.toml"))], without_the_aggregator(tmp_path)):
        with pytest.raises(SystemExit):
            main(["policy", "explain", *files, *QUESTION, "--at", at, "--json"])
        found = json.loads(capsys.readouterr().out)
        of_grants = [one for one in found["grants"] if one["grant"] not in GONE]
        assert len(of_grants) == 2
        answers.append((found["allowed"], found["code"], found.get("plan"), found["findings"], of_grants))
    assert answers[0] == answers[1]
