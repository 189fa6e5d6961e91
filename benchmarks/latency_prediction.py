"""How far a latency budget's prediction is from the measurement: one table, a row for every run.

    python benchmarks/latency_prediction.py distilbert-tagger-macs50 smoke-bert \
        --out benchmarks/results/latency_prediction.md

Every run measures a table anew, searches for the plan that keeps half of the dense model's time, and
times that plan beside the dense model. Units are drawn as important by chance, by the run's number,
so that every run has another plan; a time does not depend on which units stay, only on how many.
"""

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from numprune_export import recipe
from numprune_export.calibration.statistics import Statistics
from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.export import targets
from numprune_export.export.encoder import Encoder
from numprune_export.export.runner import EncoderRunner
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages import time_sublayers
from numprune_export.pruning import apply
from numprune_export.pruning.allocate.latency import cache
from numprune_export.pruning.allocate.latency.budget import search
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.recipe import Recipe

HEADER = """\
| model | batch, length | load average | dense ms | budget ms | predicted ms | measured ms | predicted of \
dense | measured of dense | off the prediction |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def of_run(name: str, bucket: Bucket, keep: float, seed: int, samples: int) -> str:
    path = recipe.locate(name)
    settings = LatencyBudget(batch=bucket.batch, length=bucket.length)
    chosen = recipe.load(path, ["allocate.method=latency"])
    source = resolve(
        chosen.model.source, revision=chosen.model.revision, search=[path.parent, Path.cwd()]
    )
    dense, family = Dense(source, chosen.model.dtype), source.family
    assert isinstance(family, BidirectionalEncoder)
    encoder = family.encoder(dense.model)
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        # A cache folder of its own, still empty: the table is part of what is measured.
        os.environ[cache.VARIABLE] = str(Path(folder) / "cache")
        with open_folder(Path(folder) / "run") as run:
            context = Context(chosen, run, Silent())
            table = time_sublayers.read(time_sublayers.timed(context, settings, dense, encoder))
        sites = family.sites(dense.model)
        generator = torch.Generator().manual_seed(seed)
        scores = {
            site.name: torch.rand(site.units, generator=generator)
            .repeat_interleave(site.consumer_width)
            .pow(4)
            for site in sites
        }
        plan = search(settings, sites, scores, table, keep)
        small = apply.one_shot(dense.model, family, plan.plan, Nothing(), Statistics.of_nothing)
        measured_ms = timed_pair(
            chosen, encoder, family.encoder(small), bucket, samples, seed, Path(folder)
        )
    ratio, reached = plan.predicted_ms / table.table.dense_ms, measured_ms[1] / measured_ms[0]
    return (
        f"| {name} | {bucket.batch}, {bucket.length} | {load:.1f} | {measured_ms[0]:.2f}"
        f" | {keep * table.table.dense_ms:.2f} | {plan.predicted_ms:.2f} | {measured_ms[1]:.2f}"
        f" | {ratio:.1%} | {reached:.1%} | {reached / ratio - 1:+.1%} |"
    )


def timed_pair(
    chosen: Recipe,
    dense: Encoder,
    pruned: Encoder,
    bucket: Bucket,
    samples: int,
    seed: int,
    folder: Path,
) -> tuple[float, float]:
    """Milliseconds of the dense and the pruned model, in the same rounds."""
    exporter, threads = targets.find("onnx"), chosen.benchmark.threads
    made = targets.settings_for(exporter, chosen.targets["onnx"])

    def opened(encoder: Encoder, name: str) -> EncoderRunner:
        (folder / name).mkdir()
        artifact = exporter.export(encoder, folder / name, made)
        runner = exporter.open(artifact, threads=threads)
        assert isinstance(runner, EncoderRunner), artifact.network
        return runner

    tokens = torch.randint(0, dense.vocabulary, (bucket.batch, bucket.length)).numpy()
    with opened(dense, "dense") as first, opened(pruned, "pruned") as second:
        metrics = measure_pairs(
            {"onnx": LatencyRow(Pair(first, second))},
            EncoderWorkload(tokens, (bucket,)),
            Protocol(warmup=2, samples=samples, seed=seed),
        ).metrics
    # As the report compares them: by processor time where one thread works.
    clock = "cpu_ms" if threads == 1 else "p50_ms"
    dense_ms, pruned_ms = (
        metrics[f"latency.onnx.{bucket.timing}.{variant}.{clock}"].value
        for variant in ("dense", "pruned")
    )
    return dense_ms, pruned_ms


def main(
    names: Annotated[list[str], typer.Argument(help="Recipes of encoders.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    batch: Annotated[int, typer.Option()] = 1,
    length: Annotated[int, typer.Option()] = 128,
    keep: Annotated[float, typer.Option(help="Of the dense model's time.")] = 0.5,
    runs: Annotated[int, typer.Option()] = 3,
    samples: Annotated[int, typer.Option()] = 20,
) -> None:
    run = partial(of_run, bucket=Bucket(batch, length), keep=keep, samples=samples)
    rows = []
    for name in names:
        for seed in range(runs):
            rows.append(run(name, seed=seed))
            typer.echo(rows[-1])
    text = (
        f"`python benchmarks/latency_prediction.py {' '.join(names)} --batch {batch} --length"
        f" {length} --keep {keep} --runs {runs} --samples {samples}`, {os.cpu_count()} cores\n"
    )
    out.write_text("\n".join([text, HEADER, *rows]) + "\n")


if __name__ == "__main__":
    typer.run(main)
