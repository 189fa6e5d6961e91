"""What a sweep costs beside one calibration and, for each point, what only that point needs.

    python benchmarks/sweep_cost.py smollm2-keep80 --out benchmarks/results/sweep_cost_smollm2.md
    python benchmarks/sweep_cost.py smoke --keep 0.8,0.5

The bound: calibration and scores once, and for every point the rest of a run, taken from one run of
the same recipe by itself, start included. Both are whole commands, timed from outside.
"""

import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from numprune_export.measure.environment import describe
from numprune_export.report import store
from numprune_export.report.tables.table import table

EIGHT = "0.95,0.9,0.85,0.8,0.7,0.6,0.5,0.4"
LEARNT = ("calibrate", "gradients", "score")
"""Stages that a sweep needs once."""
MADE = re.compile(r" (\S+): made in ([0-9.]+) s")


def command(*arguments: str) -> float:
    """Run the command line; wall time in seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "numprune_export", *arguments, "--quiet"], check=True)
    return time.perf_counter() - start


def made(folder: Path) -> list[tuple[str, float]]:
    """Stages that a run made, with their seconds, from its log."""
    matches = MADE.findall((folder / "log").read_text())
    return [(stage, float(seconds)) for stage, seconds in matches]


def page(
    recipe: str, changes: Sequence[str], alone_s: float, alone: Path, sweep_s: float, sweep: Path
) -> str:
    """The measurement as Markdown."""
    stages = made(alone)
    points = sorted((sweep / "points").iterdir())
    learnt = sum(seconds for stage, seconds in stages if stage in LEARNT)
    bound = learnt + len(points) * (alone_s - learnt)
    counts = Counter(stage for point in points for stage, _ in made(point))
    seconds: defaultdict[str, float] = defaultdict(float)
    for point in points:
        for stage, taken_s in made(point):
            seconds[stage] += taken_s
    rows = [
        [stage, f"{taken_s:.1f}", str(counts[stage]), f"{seconds[stage]:.1f}"]
        for stage, taken_s in stages
    ]
    here = describe()
    threads = store.read(alone / "report.json").environment.threads
    told = [
        f"# What a sweep of {len(points)} points of {recipe} costs",
        f"- {threads} threads; changed: {', '.join(changes) or 'nothing'}",
        f"- one run by itself: {alone_s:.1f} s, of it calibration and scores {learnt:.1f} s",
        f"- bound, calibration once and {len(points)} times the rest: {bound:.1f} s",
        f"- the sweep: {sweep_s:.1f} s, {sweep_s / bound:.2f} of the bound",
        f"- {here.cpu}, {here.usable_cores} cores, PyTorch {here.packages['torch']}; wall times of"
        " whole commands, each once",
    ]
    header = ["stage", "alone, s", "times made in the sweep", "seconds in all"]
    dense = store.read(alone / "report.json").metrics["size.parameters.dense"]
    told.append(f"- dense model: {dense.value / 1e6:.1f} M parameters")
    return f"{told[0]}\n\n" + "\n".join(told[1:]) + f"\n\n{table(header, rows)}\n"


def main(
    recipe: str,
    keep: Annotated[str, typer.Option(help="Fractions of the sweep.")] = EIGHT,
    set_: Annotated[list[str] | None, typer.Option("--set", help="As for a run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where runs lie; kept.")] = None,
) -> None:
    """Time one run and one sweep of a recipe."""
    with TemporaryDirectory() as temporary:
        place = work or Path(temporary)
        changes = [part for setting in set_ or () for part in ("--set", setting)]
        middle = sorted(keep.split(","), key=float)[len(keep.split(",")) // 2]
        alone, sweep = place / "alone", place / "sweep"
        alone_s = command("run", recipe, "--out", str(alone), *changes, "--set", f"keep={middle}")
        sweep_s = command("sweep", recipe, "--keep", keep, "--out", str(sweep), *changes)
        text = page(recipe, set_ or (), alone_s, alone, sweep_s, sweep)
    if out is not None:
        out.write_text(text)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
