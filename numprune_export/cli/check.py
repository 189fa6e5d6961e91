"""`check` and `baseline`: compare a finished run with limits and an earlier run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from numprune_export.gate.limits import Gate
    from numprune_export.gate.verdict import Verdict
    from numprune_export.report.seal import Seal


class Format(str, Enum):
    text = "text"
    junit = "junit"
    github = "github"
    json = "json"


def check(
    report: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    baseline: Annotated[
        Path | None,
        typer.Option(help="Baseline file, report or run to compare with. [default: limits only]"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Use `gate:` of this recipe. [default: the recipe of the run]"),
    ] = None,
    allow_different_machine: Annotated[
        bool,
        typer.Option(
            "--allow-different-machine",
            help="Compare across machines, runtimes and protocols: ratios, quality, size, parity only.",
        ),
    ] = False,
    without_latency: Annotated[
        bool,
        typer.Option(
            "--without-latency",
            help="Check only size, shapes, quality and parity, for machines without the GPU.",
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.text,
    out: Annotated[
        Path | None, typer.Option(help="Write the output to this file.", show_default=False)
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --format text: print every metric.")
    ] = False,
) -> None:
    """Check a run against limits and a baseline. Exit code 9: failed; 10: not comparable."""
    from numprune_export.core.errors import IncomparableError, RegressionError
    from numprune_export.gate import evidence
    from numprune_export.gate.judge import judge
    from numprune_export.gate.verdict import Mode

    now, seal = evidence.read(report)
    before, before_seal = (None, None) if baseline is None else evidence.read(baseline)
    mode = Mode(other_machine=allow_different_machine, without_latency=without_latency)
    verdict = judge(now, before, _gate(recipe, now.recipe.get("gate")), mode)
    verdict = verdict.noted([*_edited("report", seal), *_edited("baseline", before_seal)])
    _write(verdict, format_, out, verbose=verbose)
    if verdict.refused:
        raise IncomparableError(
            verdict.summary,
            hint="measure both alike, write a new baseline, or see `--allow-different-machine`",
        )
    if verdict.failures:
        names = [failure.name for failure in verdict.failures]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise RegressionError(
            f"the report fails the gate: {', '.join(f'`{name}`' for name in names[:3])}{more}",
            hint="fix the regression, or accept it with `numprune-export baseline RUN`",
        )


def baseline(
    run: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("baseline.json"),
) -> None:
    """Write a baseline for later checks: the run's metrics, shapes and conditions."""
    from numprune_export.core.errors import OutputError
    from numprune_export.gate import evidence

    current, seal = evidence.read(run)
    for line in _edited("report", seal):
        typer.echo(f"note: {line}", err=True)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(evidence.to_json(current), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write `{out}`: {error}", hint="choose another `--out`") from None
    typer.echo(f"baseline: {out}")


def _gate(recipe: str | None, resolved: object) -> Gate:
    from numprune_export.gate.limits import gate_of, gate_of_file

    if recipe is None:
        return gate_of({} if resolved is None else resolved, "the report's recipe")
    if Path(recipe).is_file():
        return gate_of_file(Path(recipe))
    from numprune_export.recipe import named  # imports PyTorch, which the settings need

    return named(recipe).recipe.gate


def _edited(which: str, seal: Seal | None) -> Iterator[str]:
    if seal == "edited":
        yield f"the {which} was edited after it was written: its sha256 does not match its content"
    if seal == "absent":
        yield f"the {which} has no sha256: edits cannot be detected"


def _write(verdict: Verdict, format_: Format, out: Path | None, *, verbose: bool) -> None:
    from numprune_export.gate.output import as_json, github, junit, text

    renderers = {
        Format.text: lambda: text.render(verdict, everything=verbose),
        Format.junit: lambda: junit.render(verdict),
        Format.github: lambda: github.commands(verdict),
        Format.json: lambda: as_json.render(verdict),
    }
    content = renderers[format_]()
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if format_ is Format.github and summary:
        _put(Path(summary), github.summary(verdict), add=True)
    if out is None:
        typer.echo(content, nl=False)
    else:
        _put(out, content, add=False)


def _put(path: Path, content: str, *, add: bool) -> None:
    from numprune_export.core.errors import OutputError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if add else "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise OutputError(
            f"cannot write `{path}`: {error}", hint="choose another `--out`"
        ) from None
