"""Tests that a document names, as `path::name`: whether they exist.  Sources are parsed, never imported."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

NAMED: Final = re.compile(r"`([^`:]+)::([^`]+)`")
"""Path and name of one test in a document."""


def faults_in_test(path: str, name: str, root: Path) -> list[str]:
    """Empty where pytest would collect ``path::name`` or ``path::TestClass::name`` below ``root``."""
    file = (root / path).resolve()
    if not (file.is_relative_to(root.resolve() / "tests") and file.name.startswith("test_")):
        return [f"{path} is no test_*.py below tests/"]
    if not file.is_file():
        return [f"{path} does not exist"]
    body = _parsed(file)
    *classes, function = name.split("::")
    for class_name in classes:
        found = [node for node in body if isinstance(node, ast.ClassDef) and node.name == class_name]
        body = [inner for node in found for inner in node.body]
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if not function.startswith("test_") or function not in functions:
        return [f"{path} defines no test {name}"]
    return []


@cache
def _parsed(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text(encoding="utf-8")).body
