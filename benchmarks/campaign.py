"""Reliability: damaged inputs on every surface, killed runs, full disks.

    python benchmarks/campaign.py OUT
    python benchmarks/campaign.py OUT --surface gguf --inputs 500 --kills 0

Every input is a function of the seed, the surface and its number, and is read in a forked child: it
ends well, is refused with an exit code and a hint, raises another exception (`traceback`), uses up its
processor time (`hang`), or leaves the folders it was given, as an audit hook sees it (`escape`).
Writes OUT/campaign.json and OUT/campaign.md. Exit code 1: a traceback, a hang, an escape, or a
disturbed run that does not end as an undisturbed one.
"""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Annotated, Any

import campaign_kills
import torch
import typer
from campaign_guard import Outcome, guarded
from campaign_kills import Trial
from campaign_material import Material
from campaign_surfaces import SURFACES

from numprune_export.report.tables.table import table

BAD = ("traceback", "hang", "escape")


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    surface: Annotated[list[str] | None, typer.Option(help="Only this; may be repeated.")] = None,
    inputs: Annotated[int, typer.Option(min=0, help="Damaged inputs, over all surfaces.")] = 10_000,
    seed: int = 0,
    kills: Annotated[int, typer.Option(min=0, help="Runs that are killed.")] = 50,
    within: Annotated[
        float | None,
        typer.Option(help="Seconds within which they are killed.  [default: those of a run]"),
    ] = None,
    disks: Annotated[bool, typer.Option("--disks", help="Also runs on full disks (root).")] = False,
) -> None:
    """Run the campaign."""
    names = surface or list(SURFACES)
    if unknown := [name for name in names if name not in SURFACES]:
        raise typer.BadParameter(f"`{unknown[0]}` is none of {', '.join(SURFACES)}")
    torch.set_num_threads(1)
    out = out.resolve()
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    material = Material(work)
    if disks and not campaign_kills.can_mount(work):
        raise typer.BadParameter("this user cannot mount a tmpfs", param_hint="--disks")
    surfaces: dict[str, Any] = {}
    trials: list[Trial] = []
    for name in names if inputs else ():
        surfaces[name] = rows_of(name, -(-inputs // len(names)), seed, material)
        write(out, seed, surfaces, trials)
    for trial in chain(
        campaign_kills.kills(material, kills, seed, within),
        campaign_kills.disks(material) if disks else (),
    ):
        trials.append(trial)
        write(out, seed, surfaces, trials)
    shutil.rmtree(work)
    sys.stdout.write(page(surfaces, trials))
    failed = any(row[kind] for row in surfaces.values() for kind in BAD)
    raise typer.Exit(int(failed or not all(trial.good for trial in trials)))


def write(out: Path, seed: int, surfaces: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Both files, rewritten after each part: an ended campaign leaves what it has."""
    content = {"seed": seed, "surfaces": surfaces, "trials": [trial.to_json() for trial in trials]}
    (out / "campaign.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "campaign.md").write_text(page(surfaces, trials), encoding="utf-8")


def rows_of(name: str, count: int, seed: int, material: Material) -> dict[str, Any]:
    """The outcomes of a surface: counts, and the first input of each distinct failure."""
    counts: Counter[str] = Counter()
    failures: dict[str, dict[str, Any]] = {}
    for number, outcome in outcomes(name, count, seed, material):
        counts[outcome.kind] += 1
        if outcome.kind in BAD:
            first = {"kind": outcome.kind, "first": number, "detail": outcome.detail, "count": 0}
            failures.setdefault(outcome.cause, first)["count"] += 1
    kinds = {kind: counts[kind] for kind in ("ok", "refused", *BAD)}
    return {"inputs": count, **kinds, "failures": failures}


def outcomes(name: str, count: int, seed: int, material: Material) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each input of a surface."""
    for number in range(count):
        with tempfile.TemporaryDirectory(dir=material.folder) as place:
            folder, temporary = Path(place) / "given", Path(place) / "tmp"
            folder.mkdir()
            temporary.mkdir()
            job = SURFACES[name](Random(f"{seed}-{name}-{number}"), folder, material)
            tempfile.tempdir = str(temporary)
            try:
                yield number, guarded(job, allowed=(folder, temporary))
            finally:
                tempfile.tempdir = None


def page(surfaces: Mapping[str, Mapping[str, Any]], trials: Sequence[Trial]) -> str:
    """The tables in Markdown."""
    head = ("surface", "inputs", "ok", "refused", "tracebacks (distinct)", "hangs", "escapes")
    parts = ["# Reliability"]
    if surfaces:
        parts.append(table(head, [_cells(name, row) for name, row in surfaces.items()]))
    parts += [
        f"- {name}, input {failure['first']} (of {failure['count']}): {failure['kind']}: {cause}: {failure['detail']}"
        for name, row in surfaces.items()
        for cause, failure in row["failures"].items()
    ]
    if trials:
        bad = [trial for trial in trials if not trial.good]
        disturbed = sum(trial.disturbed for trial in trials)
        parts.append(
            f"Disturbed runs: {len(trials)}, {disturbed} of them before their end; {len(bad)} differ from"
            " an undisturbed run, or left something in the temporary folder."
        )
        parts += [f"- {trial.to_json()}" for trial in bad]
    return "\n\n".join(parts) + "\n"


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    distinct = sum(failure["kind"] == "traceback" for failure in row["failures"].values())
    tracebacks = f"{row['traceback']} ({distinct})"
    return [name, *(f"{row[key]}" for key in ("inputs", "ok", "refused")), tracebacks, f"{row['hang']}", f"{row['escape']}"]  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
