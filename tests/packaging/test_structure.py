"""How the source is written, read without running it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("numprune_export", "exporters/numprune_exporters")
MOST_PARAMETERS = 7

COMMANDS = {
    "numprune_export/cli/check.py:check",
    "numprune_export/cli/compare.py:compare",
    "numprune_export/cli/sweep.py:sweep",
}
"""Each parameter is an option of the command line."""


def parameters(function):
    """How many a caller sees: without `self` and `cls`, `*args` and `**kwargs` as one each."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    bound = names[:1] in (["self"], ["cls"])
    return len(names) - bound + (given.vararg is not None) + (given.kwarg is not None)


def functions(text):
    """Of a module, at any depth."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def files():
    return [path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("def f(a, b, /, c, *, d): ...", 4),
        ("def f(*a, b, **c): ...", 3),
        ("class A:\n    def f(self, a): ...", 1),
        ("class A:\n    async def f(cls, *a): ...", 1),
    ],
)
def test_parameters_are_counted_as_a_caller_sees_them(text, count):
    (function,) = functions(text)
    assert parameters(function) == count


def test_no_function_has_more_than_seven_parameters():
    long = {
        f"{path.relative_to(ROOT)}:{function.name}"
        for path in files()
        for function in functions(path.read_text(encoding="utf-8"))
        if parameters(function) > MOST_PARAMETERS
    }
    assert long - COMMANDS == set(), "give these a dataclass, or split them"
    assert COMMANDS - long == set(), "these have few enough: take them off the list"
