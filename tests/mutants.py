"""`python -m tests.mutants FILE... --tests TEST...`: changes one thing at a time, tells what no test sees.

Each mutant is one comparison turned, one *and* made *or*, one *not* taken away, one number or truth changed,
one sum made a difference.  The tests run on a copy of the checkout, so that nothing here changes.
A survivor is printed with its place and has to be killed by a test, or explained where it is equivalent.

Not here: keeping a list of survivors, and deciding which are equivalent.
"""

import argparse
import ast
import copy
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", ".cache", "__pycache__", ".hypothesis", ".*_cache")
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SECONDS = 120.0


class Mutant(NamedTuple):
    """One changed file."""

    path: str
    line: int
    what: str
    source: str


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    tree = ast.parse(source)
    count = sum(1 for _ in _changes(tree))
    for number in range(count):
        changed = copy.deepcopy(tree)
        for position, (node, what, change) in enumerate(_changes(changed)):
            if position == number:
                change()
                yield Mutant(path, getattr(node, "lineno", 0), what, ast.unparse(changed))
                break


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, "_Change"]]:
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ops=ops):
                for position, op in enumerate(ops):
                    turned = TURNED[type(op)]
                    yield node, f"{type(op).__name__} -> {turned.__name__}", _Set(ops, position, turned())
            case ast.BoolOp(op=op):
                other: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
                yield node, f"{type(op).__name__} -> {type(other).__name__}", _Attribute(node, "op", other)
            case ast.UnaryOp(op=ast.Not()):
                yield node, "not taken away", _Drop(node)
            case ast.BinOp(op=ast.Add()):
                yield node, "Add -> Sub", _Attribute(node, "op", ast.Sub())
            case ast.BinOp(op=ast.Sub()):
                yield node, "Sub -> Add", _Attribute(node, "op", ast.Add())
            case ast.Call(func=ast.Name(id="max" | "min" as name)):
                other_name = "min" if name == "max" else "max"
                yield node, f"{name} -> {other_name}", _Attribute(node.func, "id", other_name)
            case ast.Call(func=ast.Name(id="any" | "all" as name)):
                other_name = "all" if name == "any" else "any"
                yield node, f"{name} -> {other_name}", _Attribute(node.func, "id", other_name)
            case ast.Constant(value=bool(value)):
                yield node, f"{value} -> {not value}", _Attribute(node, "value", not value)
            case ast.Constant(value=int(value)):
                yield node, f"{value} -> {value + 1}", _Attribute(node, "value", value + 1)


class _Change:
    def __call__(self) -> None:
        raise NotImplementedError


class _Set(_Change):
    def __init__(self, items: list[ast.cmpop], position: int, value: ast.cmpop) -> None:
        self._items, self._position, self._value = items, position, value

    def __call__(self) -> None:
        self._items[self._position] = self._value


class _Attribute(_Change):
    def __init__(self, node: ast.AST, name: str, value: object) -> None:
        self._node, self._name, self._value = node, name, value

    def __call__(self) -> None:
        setattr(self._node, self._name, self._value)


class _Drop(_Change):
    """Take a *not* away by writing it twice."""

    def __init__(self, node: ast.UnaryOp) -> None:
        self._node = node

    def __call__(self) -> None:
        self._node.operand = ast.UnaryOp(ast.Not(), self._node.operand)


def survives(mutant: Mutant, tree: Path, tests: Sequence[str]) -> bool:
    """Run the tests on a copy with one change; tell whether all of them pass."""
    path = tree / mutant.path
    original = path.read_text("utf-8")
    path.write_text(mutant.source, "utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        run = subprocess.run(command, cwd=tree, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original, "utf-8")
    return run.returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print survivors as they are found, and one JSON object at the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("files", nargs="+", help="modules to change, from the root of the checkout")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest runs, fastest first")
    parser.add_argument("--at-most", type=int, default=0, help="draw so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(argv)
    found = [one for name in options.files for one in mutants_of(name, (ROOT / name).read_text("utf-8"))]
    if options.at_most:
        found = random.Random(options.seed).sample(found, min(options.at_most, len(found)))
    begun = time.monotonic()
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [Path(folder) / str(number) for number in range(options.workers)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        if not survives(
            Mutant(found[0].path, 0, "", (ROOT / found[0].path).read_text("utf-8")), trees[0], options.tests
        ):
            print("the tests fail without any change", file=sys.stderr)
            return 2

        def work(number: int) -> None:
            for mutant in found[number :: len(trees)]:
                if survives(mutant, trees[number], options.tests):
                    survivors.append(mutant)
                    print(f"{mutant.path}:{mutant.line}: {mutant.what}", flush=True)

        with ThreadPoolExecutor(len(trees)) as pool:
            for done in [pool.submit(work, number) for number in range(len(trees))]:
                done.result()
    share = len(survivors) / len(found)
    print(
        json.dumps(
            {
                "mutants": len(found),
                "survivors": len(survivors),
                "share": round(share, 3),
                "seconds": round(time.monotonic() - begun),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
