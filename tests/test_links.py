"""Every relative link in the project's Markdown leads to a file, and to a heading where it names one.

Not here: links to other hosts, which would make the tests depend on them.
"""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
NOT_OURS: Final = {"var", "build", "dist", "node_modules"}
FENCE: Final = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
CODE: Final = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK: Final = re.compile(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
HEADING: Final = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)


def documents() -> list[Path]:
    """Return the Markdown files of the checkout."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(
        path for path in found if not any(part.startswith(".") or part in NOT_OURS for part in path.parts)
    )


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub forms them."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = found[slug] = found.get(slug, -1) + 1
        if number:
            found[f"{slug}-{number}"] = 0
    return set(found)


def broken(path: Path, text: str) -> list[str]:
    """Return what the relative links of a document name and is not there."""
    faults = []
    for match in LINK.finditer(CODE.sub("", FENCE.sub("", text))):
        target = match.group(1) or match.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists():
            faults.append(f"{target}: no such file")
        elif not there.is_relative_to(ROOT):
            faults.append(f"{target}: outside the checkout")
        elif anchor and there.suffix == ".md":
            known = anchors(text if there == path else there.read_text())
            if anchor.lower() not in known:
                faults.append(f"{target}: no such heading")
    return faults


def test_there_are_documents() -> None:
    assert {"README.md", "docs/wire.md", "certs/README.md"} <= {path.as_posix() for path in documents()}


@pytest.mark.parametrize("path", documents(), ids=str)
def test_every_relative_link_resolves(path: Path) -> None:
    assert broken(ROOT / path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[a](docs/nowhere.md)", ["docs/nowhere.md: no such file"]),
        ("[a](docs/store.md#no-such)", ["docs/store.md#no-such: no such heading"]),
        ("[a](docs/store.md#what-is-promised) [b](docs) [c](https://example.org/x)", []),
        ("# One\n## Two `x`: y\n[a](#two-x-y) [b](#three)", ["#three: no such heading"]),
        ("[a](../outside-of-all)", ["../outside-of-all: no such file"]),
        ("[a]: docs/nowhere.md", ["docs/nowhere.md: no such file"]),
        ("`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```\n", []),
    ],
)
def test_broken_link_is_found(text: str, faults: list[str]) -> None:
    assert broken(ROOT / "README.md", text) == faults
