"""What `inspect --plan` says of a recipe's pruning, beside what pruning then takes.

    python benchmarks/estimate_accuracy.py smoke
    python benchmarks/estimate_accuracy.py smoke-bert
    python benchmarks/estimate_accuracy.py smollm2-keep80 --set method=best --set calibration.sequences=16
    python benchmarks/estimate_accuracy.py smoke --random 0.5b-4-blocks --set method=best

`--random`: a model with random weights, of a shape in `random_decoder.py`, in the place of the recipe's.

One recipe per call, for both sides begin with a fresh process. Times are those of the processor, all
threads and the process of the reload proof included, for a machine that does other work has no other
that can be compared; wall time stands beside them. Rows of earlier calls stay in the table.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import psutil
import torch
import typer
from random_decoder import SHAPES, save_random

from numprune_export import recipe
from numprune_export.core import allocator
from numprune_export.core.run_folder import open_folder
from numprune_export.models.checkpoint.source import resolve
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.opening import kind_of
from numprune_export.pipeline.rounds import pruned_checkpoint
from numprune_export.recipe import Recipe
from numprune_export.recipe.lookup import Named
from numprune_export.workflows.estimate import estimate
from numprune_export.workflows.estimate.clock import PROCESSOR, WALL
from numprune_export.workflows.estimate.forecast import Estimate

OUT = Path(__file__).parent / "results" / "estimate_accuracy"
MiB = 2**20


class Taken:
    """An Observer that keeps processor seconds, wall seconds and peak memory of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self._peak, self._stop = 0.0, threading.Event()
        self._start, self._depth = self._now(), 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample resident memory every 20 ms."""
        process = psutil.Process()

        def watch() -> None:
            while not self._stop.wait(0.02):
                self._peak = max(self._peak, process.memory_info().rss / MiB)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def begin(self, stage: str) -> None:
        if self._depth == 0:  # what a stage holds is part of it
            self._peak, self._start = 0.0, self._now()
        self._depth += 1

    def expect(self, steps: int) -> None: ...

    def advance(self, steps: int) -> None: ...

    def warn(self, message: str) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self._depth -= 1
        if self._depth:
            return
        cpu, wall = (now - then for now, then in zip(self._now(), self._start, strict=True))
        self.stages[stage] = {"processor_s": cpu, "wall_s": wall, "memory_MiB": self._peak}

    def _now(self) -> tuple[float, float]:
        return sum(os.times()[:4]), time.perf_counter()


def prune(chosen: Recipe, search: list[Path]) -> dict[str, dict[str, float]]:
    """Every stage up to the saved and proven checkpoint."""
    taken = Taken()
    with TemporaryDirectory() as folder, open_folder(Path(folder)) as run, taken.watching():
        taken.begin("read")
        source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
        dense = Dense(source, chosen.model.dtype, single_query_heads=chosen.query_heads == "single")
        dense.model  # noqa: B018  (read now: a stage of its own)
        allocator.release()
        taken.end("read", 0.0, resumed=False)
        kind = kind_of(chosen, dense, search)
        pruned_checkpoint(Context(chosen, run, taken), kind, dense)
    return taken.stages


def row(
    label: str, estimates: dict[str, Estimate], taken: dict[str, dict[str, float]]
) -> dict[str, Any]:
    stages = {
        cpu.name: {
            "processor_s": [cpu.seconds, taken[cpu.name]["processor_s"]],
            "wall_s": [wall.seconds, taken[cpu.name]["wall_s"]],
            "memory_MiB": [cpu.memory_bytes / MiB, taken[cpu.name]["memory_MiB"]],
        }
        for cpu, wall in zip(estimates["processor"].stages, estimates["wall"].stages, strict=True)
    }
    both = [
        list(column)
        for column in zip(*(stage["memory_MiB"] for stage in stages.values()), strict=True)
    ]
    total: dict[str, Any] = {"memory_MiB": [max(column) for column in both]}
    for clock in ("processor_s", "wall_s"):
        sides = zip(*(stage[clock] for stage in stages.values()), strict=True)
        total[clock] = [sum(side) for side in sides]
    load = os.getloadavg()[0]
    return {"label": label, "threads": torch.get_num_threads(), "load": load, "stages": stages, "total": total}  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    lines = [
        "`python benchmarks/estimate_accuracy.py RECIPE`: estimated before, taken by the run after it;"
        " processor seconds, wall seconds, peak resident memory in MiB",
    ]
    for run in rows:
        lines += [
            "",
            f"## {run['label']}",
            "",
            f"{run['threads']} threads, load average {run['load']:.1f}" + run.get("note", ""),
            "",
            "| stage | processor s, estimated | taken | ratio | wall s, estimated | taken"
            " | MiB, estimated | taken | ratio |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for name, values in [*run["stages"].items(), ("total", run["total"])]:
            (a, b), (c, d), (e, f) = (
                values[key] for key in ("processor_s", "wall_s", "memory_MiB")
            )
            lines.append(
                f"| {name} | {a:.1f} | {b:.1f} | {a / b if b else 0:.2f} | {c:.1f} | {d:.1f}"
                f" | {e:.0f} | {f:.0f} | {e / f:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main(
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path, typer.Option(help="OUT.md and OUT.json are written.")] = OUT,
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
    random: Annotated[str | None, typer.Option(help="A shape of random_decoder.py.")] = None,
) -> None:
    """Estimate, prune, compare."""
    # Before anything is read: what making the model takes is no part of a run.
    start, spent = time.time(), time.process_time()
    with TemporaryDirectory() as folder:
        changes = list(change or ())
        if random is not None:
            save_random(SHAPES[random], Path(folder), dtype=torch.bfloat16)
            changes = [f"model.source={folder}", "model.dtype=auto", *changes]
        making = {"wall": time.time() - start, "processor": time.process_time() - spent}
        named = recipe.named(name, changes)
        label = " ".join([name, random or "", *(f"--set {setting}" for setting in change or ())])
        compare(named, label, out, making)


def compare(named: Named, label: str, out: Path, making: dict[str, float]) -> None:
    """Estimate, prune, and write both; `making`: seconds that the model took to make."""
    search = [named.folder, Path.cwd()]
    # Both as of now: the second estimate must not count the first as a part of starting.
    starts = {
        "processor": PROCESSOR.started() - making["processor"],
        "wall": WALL.started() - making["wall"],
    }
    clocks = {
        "processor": replace(PROCESSOR, started=lambda: starts["processor"]),
        "wall": replace(WALL, started=lambda: starts["wall"]),
    }
    estimates = {
        key: estimate(named.recipe, search=search, clock=clock) for key, clock in clocks.items()
    }
    allocator.release()
    path = out.with_suffix(".json")
    rows = json.loads(path.read_text()) if path.exists() else []
    new = row(label, estimates, prune(named.recipe, search))
    rows = [earlier for earlier in rows if earlier["label"] != label] + [new]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(rows))
    typer.echo(page([new]))


if __name__ == "__main__":
    typer.run(main)
