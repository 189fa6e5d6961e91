"""Families answer for themselves: nobody asks for their class, except where models are declared and opened."""

import ast
from pathlib import Path

import pytest

import numprune_export

PACKAGE = Path(numprune_export.__file__).parent
FAMILIES = {"RotaryDecoder", "BidirectionalEncoder"}


def may_ask(path):
    relative = path.relative_to(PACKAGE).as_posix()
    return relative.startswith("models/") or relative == "pipeline/opening.py"


def checks(source):
    """Lines that ask whether something is of a family's class, by isinstance, issubclass or type()."""
    tree = ast.parse(source)
    aliases = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.name in FAMILIES
    }
    for node in ast.walk(tree):
        asks = isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
        compares = isinstance(node, ast.Compare) and "type(" in ast.unparse(node)
        matches = isinstance(node, ast.MatchClass)
        if asks or compares or matches:
            names = {
                part.id if isinstance(part, ast.Name) else part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Name | ast.Attribute)
            }
            if names & (FAMILIES | aliases):
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(family, RotaryDecoder)",
        "isinstance(family, (int, encoder.BidirectionalEncoder))",
        "type(family) is RotaryDecoder",
        "from a import RotaryDecoder as R\nassert isinstance(family, R)",
        "match family:\n    case RotaryDecoder():\n        pass",
    ],
)
def test_a_check_is_seen(line):
    assert list(checks(line))


def test_only_models_and_the_opening_ask_for_a_familys_class():
    places = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not may_ask(path)
        for line in checks(path.read_text(encoding="utf-8"))
    ]
    assert not places, f"use a fact of the family (`kind`, `causal`, `sublayer_output`): {places}"


def test_the_walk_reaches_the_files_that_may_ask():
    allowed = [path for path in PACKAGE.rglob("*.py") if may_ask(path)]
    assert any(list(checks(path.read_text(encoding="utf-8"))) for path in allowed)
