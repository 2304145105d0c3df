"""The closed list of reasons: complete, in the document, and nothing in it that is never given."""

import re
from pathlib import Path

from policies.reasons import reasons, table

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "policy.md").read_text("utf-8")
SOURCES = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "policies").glob("*.py")))
TAKING = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "agent" / "control").glob("*.py")))
ADDCAUSES = {1, 2, 7, 8, 9, 10, 16, 20, 25, 26, 27}
RESPONSES = {1, 4, 252, 253, 254}


def test_the_table_of_the_document_is_that_of_the_list() -> None:
    assert table() in DOCUMENT, "run python -m policies.reasons and put its table there"


def test_every_code_that_is_given_is_in_the_list_and_the_other_way_round() -> None:
    given = set(re.findall(r'(?:Finding|EnvelopeError)\(\s*"([a-z-]+)"', SOURCES))
    # Where a command is taken: replay, order, the journal and the audit.
    taken = {
        "retained",
        "replayed",
        "id-reused",
        "out-of-order",
        "journal-lost",
        "audit-unavailable",
        "write-budget",
        "hold-too-short",
        "other-type",
        "cannot-restore",
        "no-clock",
    }
    assert all(f'"{code}"' in TAKING for code in taken)
    assert given | taken | {"ok", "no-grant"} == set(reasons())


def test_codes_are_of_the_two_standards() -> None:
    assert {one.addcause for one in reasons().values()} <= ADDCAUSES
    assert {one.response for one in reasons().values()} <= RESPONSES
    assert all(set(one.guessed) <= {"addcause", "response"} for one in reasons().values())


def test_the_examples_of_the_document_are_those_of_the_files() -> None:
    text = (ROOT / "policies" / "examples" / "policy.toml").read_text("utf-8")
    quoted = [
        block for block in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL) if "agreement" in block
    ]
    assert len(quoted) == 3
    assert all(block in text for block in quoted)
