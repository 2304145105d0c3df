"""The house rules, read from the source tree itself: floors, broad handlers, tasks, size, docstrings.

Each rule is a function over parsed source, so that it is shown here on a few made-up lines that it
can fail, and then holds for every module of the project.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# A package may import itself and the packages named here, nothing else of ours (DESIGN: the floors).
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "drivers": {"core"},
    "policies": {"core"},
    "certs": {"core"},
    "agent": {"core", "drivers", "policies", "certs"},
    "headend": {"core", "drivers", "policies", "certs"},
    # Only the device types are shared; a simulator that knew more would be a mirror of the agent.
    "simulator": {"core", "drivers"},
    "cli": {"core", "drivers", "policies", "certs", "agent", "headend", "simulator"},
    # Measures everything, and nothing of the product needs it.
    "bench": {"core", "drivers", "policies", "certs", "agent", "headend", "simulator", "cli"},
}
OURS = {*MAY_IMPORT, "tests"}

JUDGES = ("evidence", "gathered", "judge", "judge_counts", "witness")

# Narrower than the floor, by the beginning of the module's path: what it may not import.
NARROWER: dict[str, set[str]] = {
    # Counterparts that knew the head-end's code would agree with its mistakes.
    "simulator/peers/": {"headend"},
    # Whoever judges foreign programs knows the wire alone.
    "cli/conformance/": {"agent", "headend"},
    # The judge of a run reads stores and logs; it shares no code with what it judges.
    **{f"cli/{name}.py": {"agent", "headend"} for name in JUDGES},
}

# The core decides and describes; what it needs from the world comes in as an argument.
CORE_MAY_NOT = {"asyncio", "logging", "paho", "pymodbus", "socket", "sqlite3", "subprocess", "threading"}

CEILING = 450  # lines a module; from about 400 on it is two modules


class Module(NamedTuple):
    """One source file: its path from the root, with slashes, and its text."""

    path: str
    source: str

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]


class Import(NamedTuple):
    """One import: its line and the root package it names."""

    line: int
    target: str


def imports(tree: ast.AST) -> Iterator[Import]:
    """Yield every import, also those inside functions, under TYPE_CHECKING, and by a literal name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(node.lineno, alias.name.partition(".")[0])
            case ast.ImportFrom(module=str(name), level=0):
                yield Import(node.lineno, name.partition(".")[0])
            case ast.ImportFrom(level=level) if level > 0:
                yield Import(node.lineno, ".")
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if called(node) in {
                "import_module",
                "__import__",
            }:
                yield Import(node.lineno, name.partition(".")[0])


def called(call: ast.Call) -> str:
    """Return the last part of the name that is called."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def receiver(call: ast.Call) -> str | None:
    """Return the last part of what stands before the dot, None where there is no dot."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
        case ast.Attribute(value=ast.Call() as inner):
            return called(inner)
        case ast.Attribute():
            return ""
    return None


def is_broad(kind: ast.expr | None) -> bool:
    """Tell whether an exception clause takes everything."""
    match kind:
        case None:
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in {"Exception", "BaseException"}
        case ast.Tuple(elts=kinds):
            return any(is_broad(one) for one in kinds)
    return False


def raises(body: list[ast.stmt]) -> bool:
    """Tell whether a handler raises itself, not only in a function that it defines."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Raise):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def floors(module: Module, tree: ast.AST) -> Iterator[str]:
    """Imports go down only; rooms on one floor do not know each other."""
    allowed = MAY_IMPORT[module.package] | {module.package}
    for line, target in imports(tree):
        if target == ".":
            yield f"{line}: imports are absolute"
        elif target in OURS and target not in allowed:
            yield f"{line}: {module.package} may not import {target}"
        elif module.package == "core" and target in CORE_MAY_NOT:
            yield f"{line}: core may not import {target}: it has no IO, no clock, no logging"
        for place, forbidden in NARROWER.items():
            if module.path.startswith(place) and target in forbidden:
                yield f"{line}: {place} may not import {target}"


def broad_handlers(module: Module, tree: ast.AST) -> Iterator[str]:
    """Whoever catches everything raises again; what crashed is restarted from outside."""
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=kind, body=body) if is_broad(kind) and not raises(body):
                yield f"{node.lineno}: catches everything and does not raise"
            case ast.Call(args=kinds) if called(node) == "suppress" and any(map(is_broad, kinds)):
                yield f"{node.lineno}: suppresses everything"


def tasks(module: Module, tree: ast.AST) -> Iterator[str]:
    """A task belongs to a TaskGroup and has a name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or called(node) not in {"create_task", "ensure_future"}:
            continue
        owner = receiver(node)
        free = called(node) == "ensure_future" or owner is None or owner == "asyncio" or "loop" in owner
        if free:
            yield f"{node.lineno}: starts a task that no TaskGroup owns"
        if called(node) == "create_task" and not any(word.arg == "name" for word in node.keywords):
            yield f"{node.lineno}: starts a task without a name"


def size(module: Module, tree: ast.AST) -> Iterator[str]:
    """A module has one noun or one act."""
    lines = module.source.count("\n")
    if lines > CEILING:
        yield f"{lines}: more than {CEILING} lines, so it is two modules"


def docstring(module: Module, tree: ast.AST) -> Iterator[str]:
    """A module says what it is for."""
    if not (isinstance(tree, ast.Module) and ast.get_docstring(tree)):
        yield "1: no module docstring"


RULES = (floors, broad_handlers, tasks, size, docstring)


def faults(module: Module) -> list[str]:
    """Return one line for each broken rule."""
    tree = ast.parse(module.source)
    return [f"{module.path}:{fault}" for rule in RULES for fault in rule(module, tree)]


def modules() -> list[Module]:
    """Read every module of the root packages."""
    paths = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]


def test_every_module_keeps_the_house_rules() -> None:
    read = modules()
    assert {module.package for module in read} == set(MAY_IMPORT)
    assert [fault for module in read for fault in faults(module)] == []


def test_every_root_package_has_a_floor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


def test_floors_have_no_cycle() -> None:
    # Each package is taken once all that it may import are taken; a cycle would leave some over.
    taken: set[str] = set()
    while ready := {name for name, below in MAY_IMPORT.items() if name not in taken and below <= taken}:
        taken |= ready
    assert taken == set(MAY_IMPORT)


DOC = '"""For the test."""\n'

BROKEN = {
    "upwards": ("core/a.py", "import agent.store", "core may not import agent"),
    "upwards, from": ("drivers/a.py", "from agent import store", "drivers may not import agent"),
    "next door": ("agent/a.py", "import headend", "agent may not import headend"),
    "next door, the other way": ("headend/a.py", "from agent.store import rows", "may not import agent"),
    "same floor, low": ("policies/a.py", "import certs.dev", "policies may not import certs"),
    "simulator": ("simulator/a.py", "import certs", "simulator may not import certs"),
    "peers": ("simulator/peers/esco.py", "import headend.edi", "simulator/peers/ may not import headend"),
    "judge, agent": ("cli/judge.py", "from agent.store import rows", "cli/judge.py may not import agent"),
    "judge, headend": ("cli/judge.py", "import headend", "cli/judge.py may not import headend"),
    "judge, evidence": ("cli/evidence.py", "import agent", "cli/evidence.py may not import agent"),
    "judge, gathered": ("cli/gathered.py", "import headend", "cli/gathered.py may not import headend"),
    "judge, counts": ("cli/judge_counts.py", "import agent", "cli/judge_counts.py may not import agent"),
    "judge, witness": ("cli/witness.py", "import headend", "cli/witness.py may not import headend"),
    "conformance": ("cli/conformance/a.py", "import agent", "cli/conformance/ may not import agent"),
    "tests": ("agent/a.py", "from tests.support import x", "agent may not import tests"),
    "inside a function": ("core/a.py", "def f():\n    import cli", "core may not import cli"),
    "for types only": ("core/a.py", "if TYPE_CHECKING:\n    import cli", "core may not import cli"),
    "by name": ("core/a.py", "importlib.import_module('headend.books')", "core may not import headend"),
    "relative": ("core/a.py", "from . import ids", "imports are absolute"),
    "io in core": ("core/a.py", "import sqlite3", "core may not import sqlite3"),
    "bare except": ("agent/a.py", "try:\n    f()\nexcept:\n    pass", "catches everything"),
    "except Exception": ("agent/a.py", "try:\n    f()\nexcept Exception:\n    log()", "catches everything"),
    "in a tuple": (
        "agent/a.py",
        "try:\n    f()\nexcept (OSError, Exception):\n    g()",
        "catches everything",
    ),
    "raise in a function": (
        "agent/a.py",
        "try:\n    f()\nexcept Exception:\n    def g():\n        raise",
        "catches everything",
    ),
    "suppress": ("agent/a.py", "with contextlib.suppress(Exception):\n    f()", "suppresses everything"),
    "asyncio.create_task": ("agent/a.py", "asyncio.create_task(f(), name='f')", "no TaskGroup owns"),
    "bare create_task": ("agent/a.py", "create_task(f(), name='f')", "no TaskGroup owns"),
    "loop": ("agent/a.py", "self.loop.create_task(f(), name='f')", "no TaskGroup owns"),
    "running loop": ("agent/a.py", "asyncio.get_running_loop().create_task(f(), name='f')", "no TaskGroup"),
    "ensure_future": ("headend/a.py", "asyncio.ensure_future(f())", "no TaskGroup owns"),
    "nameless task": ("agent/a.py", "group.create_task(f())", "without a name"),
    "too long": ("agent/a.py", "x = 1\n" * CEILING, f"more than {CEILING} lines"),
}

ALLOWED = {
    "downwards": ("agent/a.py", "import core.ids\nfrom drivers.modbus import plan\nimport asyncio"),
    "itself": ("headend/a.py", "from headend.books import Books"),
    "top": ("cli/demo.py", "import agent.main\nimport headend.main\nimport simulator.main"),
    "raises again": ("agent/a.py", "try:\n    f()\nexcept Exception as e:\n    raise StoreError from e"),
    "narrow": ("agent/a.py", "try:\n    f()\nexcept OSError:\n    pass"),
    "task group": ("agent/a.py", "group.create_task(f(), name='line lan')"),
    "just short enough": ("agent/a.py", "x = 1\n" * (CEILING - 1)),
}


@pytest.mark.parametrize("case", sorted(BROKEN))
def test_broken_rule_is_found(case: str) -> None:
    path, source, sentence = BROKEN[case]
    found = faults(Module(path, DOC + source))
    assert any(fault.startswith(f"{path}:") and sentence in fault for fault in found)


@pytest.mark.parametrize("case", sorted(ALLOWED))
def test_what_the_rules_allow_is_not_a_fault(case: str) -> None:
    path, source = ALLOWED[case]
    assert faults(Module(path, DOC + source)) == []


def test_module_without_a_docstring_is_found() -> None:
    assert faults(Module("core/a.py", "x = 1\n")) == ["core/a.py:1: no module docstring"]


def test_every_place_with_a_narrower_rule_exists() -> None:
    # A folder that is to come is named with its slash; a module that is named must be there.
    assert [place for place in NARROWER if place.endswith(".py") and not (ROOT / place).is_file()] == []
