"""Mutation of the core: whether a test notices a changed operator, number or condition.

    pip install -e '.[dev,mutation]'
    python benchmarks/mutants.py OUT
    python benchmarks/mutants.py OUT --room numerics --count 500

Draws mutants of the rooms' modules (cosmic-ray's operators) and runs, for each, first the tests of the
mutated module and then those of its room, in a fork of a process with the libraries loaded, until one
fails. Only tests that run the code in their own process count: a command of a test is another process.
Writes OUT.json and OUT.md, with the survivors.
"""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import gc
import importlib.util
import json
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"numerics": "numerics", "pruning": "pruning", "parity": "measure/parity"}
WIDER = {
    "numerics": ("tests/numerics", "tests/pruning"),
    "pruning": ("tests/pruning", "tests/invariants"),
    "parity": ("tests/measure/parity", "tests/exporters/test_onnx_contract.py"),
}
"""Tests of a room, run if those of the module notice nothing."""
OPERATORS = tuple(
    f"core/{name}"
    for name in (
        "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add",
        "ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul",
        "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv",
        "ReplaceBinaryOperator_Pow_Mul", "ReplaceComparisonOperator_Eq_NotEq",
        "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Lt_LtE",
        "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE",
        "ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_Lt_GtE",
        "ReplaceComparisonOperator_Gt_LtE", "ReplaceComparisonOperator_Is_IsNot",
        "ReplaceComparisonOperator_IsNot_Is", "ReplaceUnaryOperator_Delete_USub",
        "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse",
        "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
        "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop",
    )
)  # fmt: skip
WITHOUT_EFFECT = ("TYPE_CHECKING", "@dataclass", "__future__", "prefer_deferred")
"""A change of such a line changes no result."""
PYTEST = (
    "-W", "ignore::pytest.PytestAssertRewriteWarning", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0",
    "-m", "not slow and not browser", "-k", "not lesser_processors",
)  # fmt: skip
LONGEST_S = 240
"""Processor time of a run of tests; a mutant that takes longer loops, and is noticed."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    room: str
    path: str
    """Relative to the checkout."""
    operator: str
    occurrence: int

    def code(self) -> str:
        """The mutated module; unchanged without an operator."""
        source = (ROOT / self.path).read_text(encoding="utf-8")
        if not self.operator:
            return source
        code: str = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        return code

    def change(self) -> tuple[int, str, str]:
        """Number of the first changed line, and the line before and after."""
        before = (ROOT / self.path).read_text(encoding="utf-8").splitlines()
        lines = zip(before, self.code().splitlines(), strict=False)
        number = next(index for index, (old, new) in enumerate(lines) if old != new)
        return number + 1, before[number].strip(), self.code().splitlines()[number].strip()


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    line: int
    before: str
    after: str
    noticed_by: str
    """`module`: the module's tests, `room`: the room's; empty: no test noticed it."""


def main(
    out: Annotated[Path, typer.Argument(help="OUT.json and OUT.md are written.")],
    room: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Mutants, over all rooms.")] = 300,
    seed: int = 0,
) -> None:
    """Draw mutants and run their tests."""
    names = room or list(ROOMS)
    if unknown := [name for name in names if name not in ROOMS]:
        raise typer.BadParameter(f"`{unknown[0]}` is none of {', '.join(ROOMS)}")
    out = out.resolve()
    os.chdir(ROOT)
    load_libraries()
    for name in names:
        if fails(Mutant(name, f"numprune_export/{ROOMS[name]}/__init__.py", "", 0), WIDER[name]):
            raise SystemExit(f"the tests of `{name}` fail on the code as it is")
    mutants = [mutant for name in names for mutant in mutants_of(name)]
    drawn = Random(seed).sample(mutants, min(count, len(mutants)))
    fates: list[Fate] = []
    start = time.monotonic()
    for fate in map(fate_of, drawn):
        fates.append(fate)
        write(out, fates, len(mutants), time.monotonic() - start)
        mark = fate.noticed_by or "SURVIVED"
        sys.stderr.write(f"{len(fates)}/{len(drawn)} {mark:8} {fate.mutant.path}:{fate.line}\n")


def load_libraries() -> None:
    """What tests import beside the package, which each fork imports itself."""
    for name in ("pytest", "torch", "transformers", "scipy.optimize", "onnx"):
        importlib.import_module(name)
    gc.freeze()


def mutants_of(room: str) -> Iterator[Mutant]:
    for path in sorted((ROOT / "numprune_export" / ROOMS[room]).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines, tree = source.splitlines(), get_ast(source)
        for name in OPERATORS:
            for occurrence, line in enumerate(positions(tree, name)):
                if not any(word in lines[line - 1] for word in WITHOUT_EFFECT):
                    yield Mutant(room, path.relative_to(ROOT).as_posix(), name, occurrence)


def positions(tree: object, operator: str) -> list[int]:
    """The line of each place where an operator can be applied, in its order."""

    class Places(Visitor):  # type: ignore[misc]
        def __init__(self) -> None:
            self.lines: list[int] = []
            self.operator = get_operator(operator)()

        def visit(self, node):  # type: ignore[no-untyped-def]
            self.lines += [start[0] for start, _ in self.operator.mutation_positions(node)]
            return node

    places = Places()
    places.walk(tree)
    return places.lines


def fate_of(mutant: Mutant) -> Fate:
    line, before, after = mutant.change()
    runs = {"module": tests_of(mutant), "room": WIDER[mutant.room]}
    noticed_by = next((by for by, tests in runs.items() if tests and fails(mutant, tests)), "")
    return Fate(mutant, line, before, after, noticed_by)


def tests_of(mutant: Mutant) -> tuple[str, ...]:
    """The test file of the mutated module, by its name."""
    module = Path(mutant.path).relative_to("numprune_export")
    own = Path("tests") / module.parent / f"test_{module.name}"
    return (str(own),) if own.exists() else ()


def fails(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether one of the tests fails, or does not end."""
    child = os.fork()
    if child == 0:
        os._exit(_run(mutant, tests))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) != 0


def _run(mutant: Mutant, tests: Sequence[str]) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_S, LONGEST_S))
    signal.alarm(4 * LONGEST_S)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.meta_path.insert(0, _Mutated(mutant))
    import pytest

    return int(pytest.main([*PYTEST, *tests]))


class _Mutated:
    """Imports the mutated code in place of the module's."""

    def __init__(self, mutant: Mutant) -> None:
        path = ROOT / mutant.path
        parts = Path(mutant.path).with_suffix("").parts
        self._name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self._path, self._code = path, mutant.code()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        package = [str(self._path.parent)] if self._path.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name,
            self._path,
            loader=self,  # type: ignore[arg-type]
            submodule_search_locations=package,
        )

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self._code, str(self._path), "exec"), vars(module))


def write(out: Path, fates: Sequence[Fate], possible: int, seconds: float) -> None:
    """Both files, rewritten after each mutant."""
    content = {"possible": possible, "mutants": [asdict(fate) for fate in fates]}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(page(fates, possible, seconds), encoding="utf-8")


def page(fates: Sequence[Fate], possible: int, seconds: float) -> str:
    lines = ["# Mutants of the core", ""]
    lines += [f"{len(fates)} of {possible} possible mutants, drawn; {seconds / 60:.0f} min.", ""]
    lines += ["| room | mutants | noticed by the module's tests | by the room's | survived |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for room, counts in by_room(fates).items():
        cells = (counts["module"], counts["room"], counts[""])
        lines.append(f"| {room} | {sum(cells)} | {' | '.join(map(str, cells))} |")
    lines += ["", "## Survivors", ""]
    for fate in sorted(fates, key=lambda fate: (fate.mutant.path, fate.line)):
        if not fate.noticed_by:
            lines += [f"- `{fate.mutant.path}:{fate.line}`: `{fate.before}` → `{fate.after}`"]
    return "\n".join(lines) + "\n"


def by_room(fates: Sequence[Fate]) -> Mapping[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for fate in fates:
        counts.setdefault(fate.mutant.room, Counter())[fate.noticed_by] += 1
    return counts


if __name__ == "__main__":
    typer.run(main)
