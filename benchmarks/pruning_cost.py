"""What pruning costs beside the forward passes that it needs: one table.

    python benchmarks/pruning_cost.py smollm2-keep80 --out benchmarks/results/pruning_cost_smollm2.md

The passes needed are two through all blocks: one to see the dense model, one to see the pruned
prefix. They are timed on the dense model, without the vocabulary projection, on the same windows;
the ideal is a ratio of 1.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from numprune_export import blocks, calibrate, corpus, prune, recipe
from numprune_export.allocate import allocate
from numprune_export.checkpoint.load import Loaded, load_source
from numprune_export.checkpoint.source import resolve
from numprune_export.corpus import Windows
from numprune_export.recipe import Recipe


def forward_pass(loaded: Loaded, windows: Windows, batch: int) -> None:
    """One pass of all windows through all blocks."""
    batches = blocks.embed(loaded.model, loaded.family, windows, batch)
    for index, block in enumerate(loaded.family.block_list(loaded.model)):
        blocks.advance(block, index, batches, lambda _: None)


def pruning(chosen: Recipe, loaded: Loaded, windows: Windows) -> dict[str, float]:
    """Seconds of each step of pruning, the statistics kept in memory."""
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


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = recipe.load(path, change or ())
    search = [path.parent, Path.cwd()]
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    loaded = load_source(source, getattr(torch, chosen.model.dtype))
    assert loaded.tokenizer is not None
    windows = corpus.draw(chosen.calibration, loaded.tokenizer, search)
    batch = chosen.calibration.batch

    before = timed(lambda: forward_pass(loaded, windows, batch))
    steps = pruning(chosen, loaded, windows)
    after = timed(lambda: forward_pass(loaded, windows, batch))

    needed = before + after
    count, length = windows.tokens.shape
    load = os.getloadavg()[0]
    lines = [
        f"`python benchmarks/pruning_cost.py {name}`: {count} windows of {length} tokens,"
        f" {torch.get_num_threads()} threads, load average {load:.1f}",
        "",
        "| step | seconds |",
        "|---|---:|",
        *(f"| {step} | {seconds:.1f} |" for step, seconds in steps.items()),
        f"| pruning | {sum(steps.values()):.1f} |",
        f"| two forward passes (before and after: {before:.1f}, {after:.1f}) | {needed:.1f} |",
        f"| ratio | {sum(steps.values()) / needed:.2f} |",
    ]
    out.write_text("\n".join(lines) + "\n")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
