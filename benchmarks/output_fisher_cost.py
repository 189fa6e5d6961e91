"""What the Fisher information of sublayers' outputs costs: time in forward passes, and memory.

    python benchmarks/output_fisher_cost.py time smollm2-keep80
    python benchmarks/output_fisher_cost.py memory

`time` takes 16 windows of a recipe's calibration text. Its yardstick is the model's own forward
pass over them, logits included, without gradients, before and after. `memory` counts what a process
holds at most beside the weights of a random decoder, on Linux, a process for every number of
blocks; of few windows all hidden states are kept, of many those of one batch.
"""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from random_decoder import Shape, random_decoder

from numprune_export import recipe
from numprune_export.calibration.gradients.output_fisher import next_token_fisher
from numprune_export.data import corpus
from numprune_export.data.corpus import Windows
from numprune_export.data.corpus_settings import Corpus
from numprune_export.measure.memory.resident import current_bytes, peak_bytes
from numprune_export.models.checkpoint.load import load_source
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.families import DECODERS

app = typer.Typer(add_completion=False)

MIB = 1 << 20
BLOCKS = (2, 4, 8, 16)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def gather(model: Any, family: Any, windows: Windows, batch: int) -> None:
    """Every block's F, each dropped before the next one is made."""
    for _ in next_token_fisher(model, family, windows, batch=batch, tick=lambda _: None):
        pass


def forward(model: Any, windows: Windows, batch: int) -> None:
    with torch.no_grad():
        for rows in windows.by_length(batch):
            model(input_ids=torch.from_numpy(windows.tokens[rows]), use_cache=False)


@app.command("time")
def measure_time(name: str, sequences: int = 16, threads: int = 1, rounds: int = 2) -> None:
    """Seconds, and the ratio to a forward pass."""
    torch.set_num_threads(threads)
    path = recipe.locate(name)
    chosen = recipe.load(path)
    search = [path.parent, Path.cwd()]
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    loaded = load_source(source, getattr(torch, chosen.model.dtype))
    assert loaded.tokenizer is not None
    assert isinstance(chosen.calibration, Corpus)
    windows = corpus.draw(
        chosen.calibration,
        loaded.tokenizer,
        search,
        embeddings=int(loaded.model.config.vocab_size),
    )
    windows, batch = windows.rows(np.arange(sequences)), chosen.calibration.batch
    typer.echo("| | wall seconds | processor seconds | in forward passes, processor time |")
    typer.echo("|---|---:|---:|---:|")
    for _ in range(rounds):
        before = seconds(lambda: forward(loaded.model, windows, batch))
        fisher = seconds(lambda: gather(loaded.model, loaded.family, windows, batch))
        after = seconds(lambda: forward(loaded.model, windows, batch))
        once = (before[1] + after[1]) / 2
        for label, (wall, processor) in {
            "forward pass, before": before, "Fisher": fisher, "forward pass, after": after
        }.items():  # fmt: skip
            typer.echo(f"| {label} | {wall:.1f} | {processor:.1f} | {processor / once:.2f} |")
    typer.echo(
        f"\n{sequences} windows of {windows.tokens.shape[1]} tokens, batch {batch},"
        f" {threads} threads, {chosen.model.dtype}, load average {os.getloadavg()[0]:.1f}"
    )


@app.command("memory")
def measure_memory(hidden: int = 512, sequences: int = 4, length: int = 512) -> None:
    """MiB beside the weights, by number of blocks."""
    typer.echo("| blocks | windows | MiB at most | of them hidden states | sums | all the rest |")
    typer.echo("|---:|---:|---:|---:|---:|---:|")
    for count in (sequences, 4 * sequences):
        for layers in BLOCKS:
            options = [str(size) for size in (layers, hidden, count, length)]
            # A fresh process, and one whose C library hands back what is freed: what an allocator
            # keeps for later is not what the method needs.
            done = subprocess.run(
                [sys.executable, __file__, "probe", *options],
                check=True, capture_output=True, text=True,
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MIB)},
            )  # fmt: skip
            typer.echo(done.stdout.strip())


@app.command(hidden=True)
def probe(
    layers: int, hidden: int, sequences: int, length: int, batch: Annotated[int, typer.Option()] = 2
) -> None:
    """One row of `memory`."""
    torch.set_num_threads(1)
    shape = Shape(hidden, layers, hidden // 64, hidden * 11 // 4, 32000)
    model = random_decoder(shape, 1.0, dtype=torch.float32, device="cpu", positions=length)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, shape.vocabulary, (sequences, length))
    windows = Windows(tokens, np.full(sequences, length))
    # Kernels that are loaded at their first use are not the method's.
    gather(model, DECODERS["mistral"], windows.positions(0, 8).rows(np.arange(1)), 1)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    start = current_bytes()
    gather(model, DECODERS["mistral"], windows, batch)
    most = (peak_bytes() - start) / MIB
    sums = 2 * layers * hidden**2 * 8 / MIB
    states = layers * sequences * length * hidden * 4 / MIB
    if states <= sums:
        sums /= layers
    else:
        states *= batch / sequences
    typer.echo(
        f"| {layers} | {sequences}x{length} | {most:.0f} | {states:.0f} | {sums:.0f}"
        f" | {most - states - sums:.0f} |"
    )


if __name__ == "__main__":
    app()
