"""What pruning costs beside the passes that it needs: one table.

    python benchmarks/pruning_cost.py smollm2-keep80 --set score=wanda --set allocate=global \
        --out benchmarks/results/pruning_cost_smollm2.md
    python benchmarks/pruning_cost.py distilbert-tagger-macs50 \
        --out benchmarks/results/pruning_cost_distilbert.md

A decoder needs two forward passes through all blocks: one to see the dense model, one to see the
pruned prefix. They are timed without the vocabulary projection, on the same windows. An encoder
scored by its gradients needs one forward and one backward pass of its loss, timed with nothing but
the model in them, texts of like length together. Pruning is the pipeline's stages, from
calibration to a saved checkpoint that was proved to reload. The ideal is a ratio of 1.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from numprune_export import recipe
from numprune_export.core.run_folder import open_folder
from numprune_export.data.labelled.encoded import Batch, Encoded
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.models import block_runner
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.kinds.task_encoder import TaskEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.rounds import pruned_checkpoint
from numprune_export.recipe import Recipe

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
        self.seconds: dict[str, Seconds] = {}
        self._starts: list[Seconds] = []

    def begin(self, stage: str) -> None:
        self._starts.append(now())

    def expect(self, steps: int) -> None: ...

    def advance(self, steps: int) -> None: ...

    def warn(self, message: str) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        start = self._starts.pop()
        if not self._starts:
            self.seconds[stage] = since(start)


@dataclass(frozen=True)
class Needed:
    """The passes that pruning cannot do without, and what they read."""

    label: str
    work: Callable[[], None]
    share: float
    """Of the one timed before pruning and the one after, together: how much pruning needs."""
    read: str


def of_encoder(chosen: Recipe, dense: Dense, search: list[Path]) -> tuple[ModelKind, Needed]:
    family = dense.family
    assert isinstance(family, BidirectionalEncoder)
    encoded = calibration_examples(chosen, dense, family, search)
    lengths = encoded.windows.lengths
    read = (
        f"{len(lengths)} texts of {lengths.mean():.1f} tokens on average, {lengths.max()} at most"
    )
    work = partial(forward_and_backward, dense, family, encoded)
    kind = TaskEncoder(chosen, family, dense, search)
    return kind, Needed("one forward and backward pass", work, 0.5, read)


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
        task.loss(outputs, torch.from_numpy(np.asarray(batch.labels))).sum().backward()  # type: ignore[no-untyped-call]
    handle.remove()


def model_inputs(family: BidirectionalEncoder, batch: Batch) -> dict[str, Any]:
    windows = batch.windows
    real = np.arange(windows.tokens.shape[1]) < windows.lengths[:, None]
    types = None if windows.types is None else torch.from_numpy(windows.types)
    return family.inputs(torch.from_numpy(windows.tokens), torch.from_numpy(real), types)


def of_decoder(chosen: Recipe, dense: Dense, search: list[Path]) -> tuple[ModelKind, Needed]:
    family = dense.family
    assert isinstance(family, RotaryDecoder)
    kind = CausalLm(chosen, family, dense, search)
    windows, batch = kind.texts.moments, kind.texts.batch
    count, length = windows.tokens.shape

    def forward_pass() -> None:
        """All windows through all blocks, without the vocabulary projection."""
        batches = block_runner.prepare_batches(dense.model, family, windows, batch)
        for index, block in enumerate(family.block_list(dense.model)):
            block_runner.advance(block, index, batches, lambda _: None)

    read = f"{count} windows of {length} tokens"
    return kind, Needed("two forward passes", forward_pass, 1.0, read)


def main(
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = recipe.load(path, change or ())
    search = [path.parent, Path.cwd()]
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    dense = Dense(source, chosen.model.dtype, single_query_heads=chosen.query_heads == "single")
    encoder = isinstance(source.family, BidirectionalEncoder)
    kind, needs = (of_encoder if encoder else of_decoder)(chosen, dense, search)

    dense.model  # noqa: B018  (read now: reading a checkpoint is not pruning)
    times, passes = StageTimes(), [timed(needs.work)]
    with TemporaryDirectory() as folder, open_folder(Path(folder)) as run:
        pruned_checkpoint(Context(chosen, run, times), kind, dense)
    passes.append(timed(needs.work))
    wall, processor = total(passes)
    needed = needs.share * wall, needs.share * processor
    steps = times.seconds
    spent = total(list(steps.values()))
    words = " ".join([name, *(f"--set {setting}" for setting in change or ())])
    lines = [
        f"`python benchmarks/pruning_cost.py {words}`: {needs.read}, {torch.get_num_threads()} threads,"
        f" load average {os.getloadavg()[0]:.1f}",
        "",
        "| step | wall seconds | processor seconds |",
        "|---|---:|---:|",
        *(f"| {step} | {wall:.1f} | {cpu:.1f} |" for step, (wall, cpu) in steps.items()),
        f"| pruning | {spent[0]:.1f} | {spent[1]:.1f} |",
        f"| {needs.label} (before and after: {passes[0][0]:.1f}, {passes[1][0]:.1f})"
        f" | {needed[0]:.1f} | {needed[1]:.1f} |",
        f"| ratio | {spent[0] / needed[0]:.2f} | {spent[1] / needed[1]:.2f} |",
    ]
    out.write_text("\n".join(lines) + "\n")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
