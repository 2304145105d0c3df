"""`python -m tests.mutants`: changes one thing at a time in the rules, and tells what no test sees.

A survivor has to be killed by a test, or stand in `tests/support/mutation/equivalent.toml` with the reason
why no test can see it; an entry there that no longer applies is told too. A run goes on where it was stopped:
verdicts are kept in `var/mutants/`, those of survivors until a test or a module changes.

Relies on `tests.support.mutation`.  Not here: the modules of the field and the store.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.support.mutation.changes import Change, changes_of
from tests.support.mutation.known import no_longer, read_known
from tests.support.mutation.runs import ROOT, SURVIVED, Runner, Survey, read_survey, surveyed

TRUST = [
    "policies/trust/agreement.py",
    "policies/trust/assignment.py",
    "policies/trust/bounds.py",
    "policies/trust/bundle.py",
    "policies/trust/dsse.py",
    "policies/trust/fetching.py",
    "policies/trust/floor.py",
    "policies/trust/folder.py",
    "policies/trust/freshness.py",
    "policies/trust/generations.py",
    "policies/trust/held.py",
    "policies/trust/inforce.py",
    "policies/trust/instants.py",
    "policies/trust/refusals.py",
    "policies/trust/spool.py",
    "policies/trust/verified.py",
]
"""What a gateway believes, and what becomes of it; not what the utility's own tools do."""
DECIDE = [
    "policies/assignment.py",
    "policies/budgets.py",
    "policies/conditions.py",
    "policies/decide.py",
    "policies/facts.py",
    "policies/general.py",
    "policies/grant.py",
    "policies/policy.py",
    "policies/question.py",
    "policies/roster.py",
    "policies/rulebook.py",
    "policies/when.py",
]
_DECIDE = [
    f"test_{name}.py" for name in ("question", "decide", "cancel", "denials", "when", "budgets", "sentences")
]
_DOCUMENTS = [
    f"test_{name}.py" for name in ("grant", "together", "reading", "denials", "when", "decide", "table")
]
_BELIEVE = ["test_folder.py", "test_disk.py", "test_attacks.py", "test_agreement.py"]
NEAR: dict[str, list[str]] = {
    **dict.fromkeys(DECIDE, _DECIDE),
    **{f"policies/{name}.py": _DOCUMENTS for name in ("assignment", "grant", "policy", "roster")},
    "policies/budgets.py": ["test_budgets.py", *_DECIDE],
    "policies/when.py": ["test_when.py", *_DECIDE],
    **dict.fromkeys(TRUST, _BELIEVE),
    "policies/trust/agreement.py": ["test_agreement.py", "test_contents.py", "test_attacks.py"],
    "policies/trust/assignment.py": ["test_assignment.py", "test_attacks.py"],
    "policies/trust/bounds.py": [
        "test_bounds.py",
        "test_verified.py",
        "test_bundle.py",
        "test_spool.py",
        "test_attacks.py",
    ],
    "policies/trust/bundle.py": ["test_bundle.py", "test_attacks.py", "test_verified.py"],
    "policies/trust/dsse.py": ["test_assignment.py", "test_agreement.py"],
    "policies/trust/floor.py": ["test_freshness.py", "test_attacks.py"],
    "policies/trust/freshness.py": ["test_freshness.py", "test_attacks.py"],
    "policies/trust/inforce.py": ["test_inforce.py"],
    "policies/trust/instants.py": ["test_contents.py", "test_agreement.py"],
    "policies/trust/spool.py": ["test_spool.py", "test_attacks.py"],
    "policies/trust/verified.py": ["test_disk.py", "test_verified.py", "test_attacks.py"],
}
"""Where a change of a module is seen most: these files of tests are tried first."""
TESTS = ["tests/unit/policies", "tests/unit/agent/policy"]
FEW = 60
"""So many are faster done without finding out first which tests reach them."""
KEPT = ROOT / "var" / "mutants"


def main(argv: Sequence[str] | None = None) -> int:
    """Print survivors and the figures; 1 when a survivor has no reason or a reason no survivor."""
    options = _options(argv)
    paths = options.module or [*TRUST, *DECIDE]
    sources = {path: (ROOT / path).read_text("utf-8") for path in paths}
    changes = [change for path in paths for change in changes_of(path, sources[path])]
    known = {one.key: one for one in read_known()}
    every = list(changes)
    if options.sample:
        unlisted = [one for one in changes if one.key not in known]
        changes = sorted(unlisted, key=lambda one: _lot(one, options.seed))[: options.sample]
    begun = time.monotonic()
    books = _Books(sources, fresh=options.fresh, tests=options.tests)
    todo = [one for one in changes if books.killer(one) is None]
    if todo:
        survey = books.survey(paths, run=len(todo) > FEW)
        Runner(survey, sources, options.workers, books.note(len(todo), options.quiet)).run(todo)
        books.read()
    killed = {one.key for one in changes if books.killer(one)}
    survivors = [one for one in changes if one.key not in killed]
    unexplained = [one for one in survivors if one.key not in known]
    stale = no_longer(list(known.values()), every, killed)
    figures = _figures(changes, killed, set(known))
    figures["stale"] = len(stale)
    figures["seconds"] = round(time.monotonic() - begun)
    if options.json:
        print(json.dumps(figures))
    else:
        _show(figures)
    for one in unexplained:
        print(f"{one.path}:{one.first}: {one.within}: {one.what}", file=sys.stderr)
    for sentence in stale:
        print(f"equivalent.toml: {sentence}", file=sys.stderr)
    return 1 if unexplained or stale else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--module", action="append", help="a module to change, from the root; may stand often"
    )
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what pytest runs")
    parser.add_argument("--sample", type=int, default=0, help="draw so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="believe no verdict of an earlier run")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _lot(change: Change, seed: int) -> str:
    """Return a change's place in the draw: it stays when others come or go."""
    return _digest(json.dumps([seed, *change.key]).encode())


class _Books:
    """The verdicts so far, over runs."""

    def __init__(self, sources: dict[str, str], *, fresh: bool, tests: Sequence[str]) -> None:
        self._tests = list(tests)
        self._sources = {path: _digest(source.encode()) for path, source in sources.items()}
        files = [path for test in tests for path in _files(ROOT / test)]
        code = [path for package in ("core", "policies", "agent") for path in _files(ROOT / package)]
        parts = [f"{path}\0".encode() + path.read_bytes() for path in sorted({*files, *code})]
        self._world = _digest(b"".join(parts))
        self._path = KEPT / "verdicts.jsonl"
        self._found: dict[str, str] = {}
        KEPT.mkdir(parents=True, exist_ok=True)
        if fresh:
            self._path.unlink(missing_ok=True)
        self.read()

    def read(self) -> None:
        """Read what is kept."""
        lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        self._found = {one["key"]: one["killer"] for line in lines if (one := json.loads(line))}

    def killer(self, change: Change) -> str | None:
        """Return what killed a change, SURVIVED when nothing did, None when nobody has tried."""
        killer = self._found.get(self._key(change))
        return self._found.get(self._key(change) + self._world) if killer is None else killer

    def note(self, total: int, quiet: bool) -> "_Note":
        """Return what keeps verdicts as they come."""
        return _Note(self, total, quiet)

    def keep(self, change: Change, killer: str) -> None:
        """Write a verdict down."""
        key = self._key(change) if killer else self._key(change) + self._world
        with self._path.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"key": key, "killer": killer, "what": f"{change.path}:{change.first}"}) + "\n"
            )

    def survey(self, paths: Sequence[str], *, run: bool) -> Survey:
        """Return what the tests reach, found out anew when anything changed."""
        kind = "reached" if run else "collected"
        name = _digest(json.dumps([self._world, *sorted(paths), *self._tests]).encode())
        path = KEPT / f"{kind}-{name}.json"
        if not path.exists():
            for old in KEPT.glob(f"{kind}-*.json"):
                old.unlink()
            surveyed(paths, self._tests, path, run=run)
        return replace(read_survey(path), near=NEAR)

    def _key(self, change: Change) -> str:
        return _digest(json.dumps([self._sources[change.path], *change.key]).encode())


class _Note:
    def __init__(self, books: _Books, total: int, quiet: bool) -> None:
        self._books, self._total, self._quiet = books, total, quiet
        self._counts: Counter[str] = Counter()

    def __call__(self, change: Change, killer: str) -> None:
        self._books.keep(change, killer)
        self._counts["killed" if killer else "survived"] += 1
        if not self._quiet and (self._counts.total() % 50 == 0 or not killer):
            told = f"{change.path}:{change.first}: {change.what}" if killer == SURVIVED else ""
            print(f"{self._counts.total()}/{self._total} {told}", file=sys.stderr, flush=True)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _figures(
    changes: Sequence[Change], killed: set[tuple[str, str, str, str]], known: set[tuple[str, str, str, str]]
) -> dict[str, object]:
    modules = {}
    for path in sorted({one.path for one in changes}):
        modules[path] = _counts([one for one in changes if one.path == path], killed, known)
    return {**_counts(changes, killed, known), "modules": modules}


def _counts(
    changes: Sequence[Change], killed: set[tuple[str, str, str, str]], known: set[tuple[str, str, str, str]]
) -> dict[str, object]:
    survived = [one for one in changes if one.key not in killed]
    equivalent = sum(one.key in known for one in survived)
    return {
        "mutants": len(changes),
        "killed": len(changes) - len(survived),
        "equivalent": equivalent,
        "unexplained": len(survived) - equivalent,
        "survived_percent": round(100 * len(survived) / max(1, len(changes)), 1),
    }


def _show(figures: dict[str, object]) -> None:
    modules = figures["modules"]
    assert isinstance(modules, dict)
    print(
        f"{'module':34} {'mutants':>8} {'killed':>8} {'equivalent':>11} {'unexplained':>12} {'survived':>9}"
    )
    for path, one in [*modules.items(), ("all", figures)]:
        print(
            f"{path:34} {one['mutants']:8} {one['killed']:8} {one['equivalent']:11} {one['unexplained']:12} "
            f"{one['survived_percent']:7} %"
        )
    print(f"{figures['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
