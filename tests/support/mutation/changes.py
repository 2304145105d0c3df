"""What may be changed in a module, one thing at a time, so that a test has to see it.

A comparison turned or its bound moved, *and* made *or*, a *not* taken away, a condition turned, a number or a
truth changed, a sum made a difference, *min* made *max*, *any* made *all*, a call or a refusal left out.

Not changed: what people read (log lines, f-strings, `__str__`), annotations but for the bounds inside of
them, *frozen*, *slots* and the like of classes, assertions.  Not here: running tests
(`tests.support.mutation.runs`).
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
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
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}
_REACHED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_OF_CLASSES = {"frozen", "slots", "kw_only", "eq", "order", "weakref_slot"}
_LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_FOR_PEOPLE = {"__str__", "__repr__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LONGEST_SHOWN = 160


@dataclass(frozen=True)
class Change:
    """One place in a tree and what may stand there instead."""

    path: str
    within: str
    """The function or class it stands in, with dots; empty at the top of a module."""
    line: str
    """The text of its first line."""
    what: str
    """Before and after; of several alike in one line the second ends in ``(2)``."""
    first: int
    last: int
    """Its lines, and those of its statement, counted from 1."""
    head: int
    foot: int
    function: tuple[str, int] | None
    """Outermost function whose body holds it: name with dots, first line.  None: it is read at import."""
    place: int
    """Which of the tree's changes it is."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it as long as its line stays as it is."""
        return self.path, self.within, self.line, self.what


@dataclass
class _Spot:
    node: ast.AST
    holder: ast.AST | list[ast.AST]
    at: str | int
    new: object
    shown: ast.AST
    within: tuple[str, ...]
    statement: ast.stmt
    function: tuple[str, int] | None

    @property
    def now(self) -> ast.AST:
        """What stands there."""
        if isinstance(self.holder, list):
            assert isinstance(self.at, int)
            return self.holder[self.at]
        found = getattr(self.holder, str(self.at))
        return found if isinstance(found, ast.AST) else self.holder

    def swap(self) -> None:
        if isinstance(self.holder, list):
            assert isinstance(self.at, int)
            self.holder[self.at], self.new = self.new, self.holder[self.at]
        else:
            assert isinstance(self.at, str)
            was = getattr(self.holder, self.at)
            setattr(self.holder, self.at, self.new)
            self.new = was


def changes_of(path: str, source: str) -> list[Change]:
    """Return every change of a module."""
    lines = source.splitlines()
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for place, spot in enumerate(_spots(ast.parse(source))):
        before = ast.unparse(spot.shown)
        is_whole = spot.now is spot.shown and spot.now is not spot.holder
        spot.swap()
        after = (
            "left out"
            if isinstance(spot.node, ast.stmt)
            else ast.unparse(spot.now if is_whole else spot.shown)
        )
        spot.swap()
        what = " ".join(f"{_short(before)} -> {_short(after)}".split())
        line = lines[spot.node.lineno - 1].strip()  # type: ignore[attr-defined]
        within = ".".join(spot.within)
        seen[within, line, what] += 1
        if (count := seen[within, line, what]) > 1:
            what = f"{what} ({count})"
        head, foot = _span(spot.statement)
        first, last = spot.node.lineno, spot.node.end_lineno or spot.node.lineno  # type: ignore[attr-defined]
        found.append(Change(path, within, line, what, first, last, head, foot, spot.function, place))
    return found


def changed_code(change: Change, source: str, filename: str) -> CodeType:
    """Return the compiled module with one change in it, its lines where they were."""
    tree = ast.parse(source)
    spot = next(spot for place, spot in enumerate(_spots(tree)) if place == change.place)
    spot.swap()
    return compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _span(statement: ast.stmt) -> tuple[int, int]:
    """Return the lines of a statement itself, without the block below it."""
    last = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    if body:
        last = max(statement.lineno, body[0].lineno - 1)
    return statement.lineno, last


def _spots(tree: ast.Module) -> Iterator[_Spot]:
    for statement in tree.body:
        yield from _Walk().statement(statement, tree.body, tree.body.index(statement))


class _Walk:
    def __init__(self) -> None:
        self.within: tuple[str, ...] = ()
        self.function: tuple[str, int] | None = None
        self.at: ast.stmt = ast.Pass()

    def spot(self, node: ast.AST, holder: object, at: str | int, new: object, shown: ast.AST) -> _Spot:
        return _Spot(node, holder, at, new, shown, self.within, self.at, self.function)  # type: ignore[arg-type]

    def statement(self, node: ast.stmt, block: list[ast.stmt], number: int) -> Iterator[_Spot]:
        if isinstance(node, _FUNCTIONS):
            yield from self._function(node)
        elif isinstance(node, ast.ClassDef):
            yield from self._class(node)
        elif not _is_left_alone(node):
            outer, self.at = self.at, node
            if _may_go(node):
                yield self.spot(node, block, number, ast.copy_location(ast.Pass(), node), node)
            if isinstance(node, ast.AugAssign) and type(node.op) in _REACHED:
                yield self.spot(node.target, node, "op", _REACHED[type(node.op)](), node)
            if isinstance(node, ast.If | ast.While) and _is_plain(node.test):
                yield self.spot(node.test, node, "test", _denied(node.test), node.test)
            yield from self._fields(node)
            self.at = outer

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[_Spot]:
        if node.name in _FOR_PEOPLE:
            return
        outer_at, self.at = self.at, node
        for part in (*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)):
            yield from self._expression(part)
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                yield from self._annotation(argument.annotation)
        outer = self.within, self.function
        self.within = (*self.within, node.name)
        if self.function is None:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            self.function = ".".join(self.within), first
        yield from self._block(node.body)
        self.within, self.function = outer
        self.at = outer_at

    def _class(self, node: ast.ClassDef) -> Iterator[_Spot]:
        outer_at, self.at = self.at, node
        for keyword in node.keywords:
            if keyword.arg not in _OF_CLASSES:
                yield from self._expression(keyword.value)
        outer, self.within = self.within, (*self.within, node.name)
        yield from self._block(node.body)
        self.within = outer
        self.at = outer_at

    def _block(self, block: list[ast.stmt]) -> Iterator[_Spot]:
        for number, statement in enumerate(block):
            yield from self.statement(statement, block, number)

    def _fields(self, node: ast.AST) -> Iterator[_Spot]:
        for name, value in ast.iter_fields(node):
            if name == "annotation" and isinstance(value, ast.expr):
                yield from self._annotation(value)
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield from self._block(value)
            else:
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, ast.AST):
                        yield from self._expression(one)

    def _annotation(self, node: ast.expr) -> Iterator[_Spot]:
        """Go on to the calls alone: the bounds of a field stand there."""
        if isinstance(node, ast.Call):
            yield from self._fields(node)
            return
        for one in ast.iter_child_nodes(node):
            if isinstance(one, ast.expr):
                yield from self._annotation(one)

    def _expression(self, node: ast.AST) -> Iterator[_Spot]:
        match node:
            case ast.JoinedStr() | ast.keyword(arg="strict", value=ast.Constant(value=True)):
                return
            case ast.keyword(arg="init"):
                return
            case ast.IfExp(body=one, orelse=other) if _is_text(one) and _is_text(other):
                return
            case ast.Call(func=ast.Name(id="isinstance" | "cast" | "TypeVar")):
                return
            case ast.Call(func=ast.Name(id="dataclass")):
                return
            case ast.Compare(ops=ops):
                for number, op in enumerate(ops):
                    yield self.spot(node, ops, number, _COMPARED[type(op)](), node)
                    if type(op) in _TURNED:
                        yield self.spot(node, ops, number, _TURNED[type(op)](), node)
            case ast.BoolOp(op=joined):
                other_op = ast.Or() if isinstance(joined, ast.And) else ast.And()
                yield self.spot(node, node, "op", other_op, node)
            case ast.UnaryOp(op=ast.Not()):
                twice = ast.copy_location(ast.UnaryOp(ast.Not(), node.operand), node)
                yield self.spot(node, node, "operand", twice, node)
            case ast.BinOp(op=op) if type(op) in _REACHED and not self._is_type(node):
                yield self.spot(node, node, "op", _REACHED[type(op)](), node)
            case ast.Call(func=ast.Name(id=name) as named) if name in _NAMES:
                yield self.spot(node, named, "id", _NAMES[name], node)
            case ast.Constant(value=bool(truth)):
                yield self.spot(node, node, "value", not truth, node)
            case ast.Constant(value=int(number) | float(number)):
                yield self.spot(node, node, "value", number + 1, node)
            case _:
                pass
        if isinstance(node, ast.IfExp) and _is_plain(node.test):
            yield self.spot(node.test, node, "test", _denied(node.test), node)
        if isinstance(node, ast.comprehension):
            for number, test in enumerate(node.ifs):
                if _is_plain(test):
                    yield self.spot(test, node.ifs, number, _denied(test), test)
        yield from self._fields(node)

    def _is_type(self, node: ast.BinOp) -> bool:
        return isinstance(node.op, ast.BitOr) and self.function is None


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    )


def _is_plain(test: ast.expr) -> bool:
    """Tell whether nothing else turns a condition."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)


def _denied(test: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)


def _may_go(node: ast.stmt) -> bool:
    match node:
        case ast.Raise():
            return True
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom() | ast.Await()):
            return True
        case _:
            return False


def _is_left_alone(node: ast.stmt) -> bool:
    match node:
        case ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=logger), attr=level))):
            return level in _LOGS and logger.lower().strip("_") in {"log", "logger"}
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case _:
            return False
