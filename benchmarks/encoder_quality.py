"""What each score and repair leaves of an encoder's task, over a curve of budgets: one table.

    python benchmarks/encoder_quality.py minilm-trec-macs50 --out benchmarks/results/encoder_trec.md

All contenders have equal multiply-accumulates. Every calibration draw is run once and serves all
points; each point is measured in PyTorch, and the dense model is the ideal. Beside the page lies its
JSON, which a run that was stopped goes on from.

The Fisher score estimates a loss that sums over units, which is what `search` maximises. The other
scores order units within a layer and compare heads with neurons only by the mean over their columns,
so they are shown under `threshold` too: one limit on scores standardised by site. `fisher_obs`,
`fisher_obs-256` (gradients of 256 examples) and `obs` (no gradients) have error curves instead:
`curves` as they are, `tuned` with the weight of attention chosen by divergence, `rounds` twice.
"""

from pathlib import Path
from typing import Annotated

import typer
from encoder_bench import prepare
from encoder_contenders import CLOSED, contenders
from encoder_curves import ALLOCATIONS
from encoder_points import points
from encoder_quality_page import Page

from numprune_export import recipe
from numprune_export.core import allocator
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.recipe import Recipe


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def chosen_recipe(path: Path, change: list[str], sequences: int | None, rows: int | None) -> Recipe:
    wanted = {"calibration.sequences": sequences, "evaluation.sequences": rows}
    given = [f"{key}={count}" for key, count in wanted.items() if count is not None]
    chosen = recipe.load(path, [*change, *given])
    return (
        chosen
        if isinstance(chosen.score, Fisher)
        else chosen.model_copy(update={"score": Fisher()})
    )


@matmul_precision("auto")  # as recipes do while they prune
def main(
    name: Annotated[str, typer.Argument(help="A recipe of an encoder with a task head.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write; its .json goes beside it.")],
    keeps: Annotated[
        str, typer.Option(help="Budgets, as fractions of MACs, in the order they are run in.")
    ] = "0.5,0.7,0.3,0.9,0.6,0.4,0.8",
    seeds: Annotated[int, typer.Option(help="Calibration draws.")] = 3,
    seeds_at: Annotated[
        str | None, typer.Option(help="Budgets that get all the draws, the others one.")
    ] = None,
    scores: Annotated[str, typer.Option()] = "fisher,stat,numerical,magnitude",
    search_at: Annotated[
        str, typer.Option(help="Budgets at which scores other than fisher have `search` too.")
    ] = "0.5",
    allocations: Annotated[
        str, typer.Option(help=f"Of error curves: {', '.join(ALLOCATIONS)}.")
    ] = "curves",
    repairs: Annotated[
        str | None,
        typer.Option(
            help=f"none, {', '.join(CLOSED)}, or the recipe's own. [default: none and that]",
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="Calibration examples of a draw.")] = None,
    rows: Annotated[int | None, typer.Option(help="Evaluation examples.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = chosen_recipe(path, change or [], sequences, rows)
    bench = prepare(chosen, [path.parent, Path.cwd()], seeds)
    dense = bench.evaluate(bench.dense.model)
    measure = dense.measures[bench.metric]
    page = Page.open(
        out,
        {
            "recipe": name,
            "set": sorted(change or []),
            "metric": bench.metric,
            "dense": measure.value,
            "evaluation examples": measure.examples,
            "mean tokens": round(float(bench.evaluation.windows.lengths.mean()), 2),
            "calibration examples": len(bench.draws[0].windows.tokens),
            "dtype": chosen.model.dtype,
        },
    )
    full = numbers(keeps if seeds_at is None else seeds_at)
    wanted = ["none", bench.repair.method] if repairs is None else repairs.split(",")
    for keep in numbers(keeps):
        count, searched = (seeds if keep in full else 1), keep in numbers(search_at)
        for contender in contenders(scores.split(","), allocations.split(","), searched=searched):
            missing = [
                name
                for name in wanted
                if not page.has(keep, contender.score, contender.allocation, name, count)
            ]
            if not missing:
                continue
            for point in points(bench, dense, contender, keep, count, missing):
                page.add(point)
                typer.echo(point.line(measure.value))
            allocator.release()


if __name__ == "__main__":
    typer.run(main)
