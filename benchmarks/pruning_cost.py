"""What pruning costs beside the passes that it needs: one table.

    python benchmarks/pruning_cost.py smollm2-keep80 --set score=wanda --set allocate=global \
        --out benchmarks/results/pruning_cost_smollm2.md
    python benchmarks/pruning_cost.py distilbert-tagger-macs50 \
        --out benchmarks/results/pruning_cost_distilbert.md

A decoder needs two forward passes through all blocks: one to see the dense model, one to see the
pruned prefix. They are timed without the vocabulary projection, on the same windows. An encoder
scored by its gradients needs one forward and one backward pass of its loss, timed with nothing but
the model in them, texts of like length together. The ideal is a ratio of 1.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from numprune_export import blocks, calibrate, corpus, prune, recipe
from numprune_export.allocate import allocate
from numprune_export.bidirectional import BidirectionalEncoder
from numprune_export.checkpoint.load import Loaded, load_source
from numprune_export.checkpoint.source import Source, resolve
from numprune_export.corpus import Windows
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.encoders import EncoderSubject
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.pruning import pruned_checkpoint
from numprune_export.recipe import Recipe
from numprune_export.run_folder import open_folder
from numprune_export.tasks import task_of
from numprune_export.tasks.encoded import Batch, Encoded
from numprune_export.tasks.labelled import LabelledData
from numprune_export.tasks.tokenize import Reading

Seconds = tuple[float, float]
"""Wall time, and processor time of all threads and of processes that were waited for."""


def now() -> Seconds:
    return time.perf_counter(), sum(os.times()[:4])


def since(start: Seconds) -> Seconds:
    wall, processor = now()
    return wall - start[0], processor - start[1]


def timed(work: Callable[[], Any]) -> Seconds:
    start = now()
    work()
    return since(start)


def total(parts: list[Seconds]) -> Seconds:
    return sum(wall for wall, _ in parts), sum(processor for _, processor in parts)


class StageTimes:
    """An Observer that keeps what each stage took; what a stage holds is part of it."""

    def __init__(self) -> None:
        self.found: dict[str, Seconds] = {}
        self._starts: list[Seconds] = []

    def begin(self, stage: str) -> None:
        self._starts.append(now())

    def expect(self, steps: int) -> None: ...

    def advance(self, steps: int) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        start = self._starts.pop()
        if not self._starts:
            self.found[stage] = since(start)


def of_encoder(
    chosen: Recipe, source: Source, search: list[Path]
) -> tuple[dict[str, Seconds], list[Seconds], str]:
    """Each stage of the pipeline up to the saved and proven checkpoint; the pass before and after."""
    dense, times = Dense(source, chosen.model.dtype), StageTimes()
    family = source.family
    assert isinstance(family, BidirectionalEncoder)
    subject = EncoderSubject(chosen, family, dense, search)
    encoded = calibration_examples(chosen, dense, family, search)
    needed = [timed(lambda: forward_and_backward(dense, family, encoded))]
    with TemporaryDirectory() as folder, open_folder(Path(folder)) as run:
        pruned_checkpoint(Context(chosen, run, times), subject, dense)
    needed.append(timed(lambda: forward_and_backward(dense, family, encoded)))
    lengths = encoded.windows.lengths
    what = (
        f"{len(lengths)} texts of {lengths.mean():.1f} tokens on average, {lengths.max()} at most"
    )
    return times.found, needed, what


def calibration_examples(
    chosen: Recipe, dense: Dense, family: BidirectionalEncoder, search: list[Path]
) -> Encoded:
    data, skeleton = chosen.calibration, dense.skeleton
    assert isinstance(data, LabelledData)
    assert dense.tokenizer is not None
    positions = family.encoder(skeleton).max_positions
    reading = Reading.of(dense.tokenizer, skeleton.config, positions)
    return task_of(family.head_of(skeleton).task, skeleton.config).load(data, reading, search)


def forward_and_backward(dense: Dense, family: BidirectionalEncoder, encoded: Encoded) -> None:
    """The loss of all examples and its gradient at the first block's input."""
    model = dense.model.requires_grad_(False)
    task = task_of(family.head_of(model).task, model.config)
    handle = family.block_list(model)[0].register_forward_pre_hook(
        lambda _, inputs: (inputs[0].detach().requires_grad_(), *inputs[1:])
    )
    for batch in encoded.batches(by_length=True):
        outputs = model(**model_inputs(family, batch))
        task.loss(outputs, torch.from_numpy(np.asarray(batch.labels))).sum().backward()
    handle.remove()


def model_inputs(family: BidirectionalEncoder, batch: Batch) -> dict[str, Any]:
    windows = batch.windows
    real = np.arange(windows.tokens.shape[1]) < windows.lengths[:, None]
    types = None if windows.types is None else torch.from_numpy(windows.types)
    return family.inputs(torch.from_numpy(windows.tokens), torch.from_numpy(real), types)


def of_decoder(
    chosen: Recipe, source: Source, search: list[Path]
) -> tuple[dict[str, Seconds], list[Seconds], str]:
    """Each step of pruning, the statistics kept in memory; the pass before and after."""
    loaded = load_source(source, getattr(torch, chosen.model.dtype))
    assert loaded.tokenizer is not None
    windows = corpus.draw(chosen.calibration, loaded.tokenizer, search)
    batch = chosen.calibration.batch
    before = timed(lambda: forward_pass(loaded, windows, batch))
    steps = pruning(chosen, loaded, windows)
    after = timed(lambda: forward_pass(loaded, windows, batch))
    count, length = windows.tokens.shape
    return steps, [before, after], f"{count} windows of {length} tokens"


def forward_pass(loaded: Loaded, windows: Windows, batch: int) -> None:
    """One pass of all windows through all blocks."""
    batches = blocks.embed(loaded.model, loaded.family, windows, batch)
    for index, block in enumerate(loaded.family.block_list(loaded.model)):
        blocks.advance(block, index, batches, lambda _: None)


def pruning(chosen: Recipe, loaded: Loaded, windows: Windows) -> dict[str, Seconds]:
    model, family, batch = loaded.model, loaded.family, chosen.calibration.batch
    sites, statistics, scores = family.sites(model), {}, {}
    generator = torch.Generator()

    def collect() -> None:
        for found in calibrate.collect(model, family, windows, batch, lambda _: None):
            statistics.update(found)

    def score() -> None:
        for site in sites:
            weight = family.block_list(model)[site.block].get_submodule(site.consumer).weight
            scores[site.name] = chosen.score(
                weight.detach(), statistics[site.name], keep=chosen.keep, generator=generator
            )

    def compensate() -> None:
        plan = allocate(sites, scores, chosen.keep, chosen.allocate)
        if chosen.compensate.order == "sequential":
            prune.sequential(model, family, plan, chosen.compensate, windows, batch, lambda _: None)
        else:
            prune.one_shot(model, family, plan, chosen.compensate, lambda s: statistics[s.name])

    return {
        "calibrate": timed(collect),
        "score": timed(score),
        "allocate, compensate, rewrite": timed(compensate),
    }


def main(
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = recipe.load(path, change or ())
    search = [path.parent, Path.cwd()]
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    encoder = isinstance(source.family, BidirectionalEncoder)
    steps, passes, what = (of_encoder if encoder else of_decoder)(chosen, source, search)

    # A decoder needs both of the passes timed, an encoder one: the mean of the two.
    share = 0.5 if encoder else 1.0
    needed = tuple(share * one for one in total(passes))
    spent = total(list(steps.values()))
    label = "one forward and backward pass" if encoder else "two forward passes"
    lines = [
        f"`python benchmarks/pruning_cost.py {name}`: {what}, {torch.get_num_threads()} threads,"
        f" load average {os.getloadavg()[0]:.1f}",
        "",
        "| step | wall seconds | processor seconds |",
        "|---|---:|---:|",
        *(f"| {step} | {wall:.1f} | {cpu:.1f} |" for step, (wall, cpu) in steps.items()),
        f"| pruning | {spent[0]:.1f} | {spent[1]:.1f} |",
        f"| {label} (before and after: {passes[0][0]:.1f}, {passes[1][0]:.1f})"
        f" | {needed[0]:.1f} | {needed[1]:.1f} |",
        f"| ratio | {spent[0] / needed[0]:.2f} | {spent[1] / needed[1]:.2f} |",
    ]
    out.write_text("\n".join(lines) + "\n")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
