"""Which score and compensation leave most of a model, at equal parameters: one table.

    python benchmarks/scores.py smollm2-keep80 --out benchmarks/results/scores_smollm2.md

One calibration is shared by all rows; each row is a plan, a compensation and a perplexity in
PyTorch. The dense model's row is the ideal.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from numprune_export import calibrate, corpus, prune, recipe, statistics_folder
from numprune_export.allocate import Allocation, allocate
from numprune_export.checkpoint.load import Loaded, load_source
from numprune_export.checkpoint.source import resolve
from numprune_export.compensate.bias import Bias
from numprune_export.compensate.closed_form import ClosedForm
from numprune_export.compensate.none import Nothing
from numprune_export.corpus import Windows
from numprune_export.plan import Plan, Site
from numprune_export.recipe import Recipe
from numprune_export.score.flap import Flap
from numprune_export.score.magnitude import Magnitude
from numprune_export.score.numerical import Numerical
from numprune_export.score.random import Random
from numprune_export.score.wanda import Wanda
from numprune_export.validate.perplexity import perplexity
from numprune_export.validate.reference import TorchRunner

SCORES: dict[str, Any] = {
    "numerical": Numerical(),
    "wanda": Wanda(),
    "flap": Flap(),
    "magnitude": Magnitude(),
    "random": Random(),
}
REPAIRS: dict[str, Any] = {
    "closed_form sequential": ClosedForm(),
    "closed_form one_shot": ClosedForm(order="one_shot"),
    "bias one_shot": Bias(),
    "none": Nothing(),
}


@dataclass(frozen=True)
class Setting:
    """One row: how units are scored and shared out, and how the rest is repaired."""

    score: str
    allocation: Allocation
    repair: str

    @property
    def name(self) -> str:
        shared = "standardised" if self.allocation.standardise else "raw"
        return f"{self.score} | {self.allocation.method} {shared} | {self.repair}"


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    recipe: Recipe
    loaded: Loaded
    calibration: Windows
    evaluation: Windows
    statistics: Path

    def plan(self, setting: Setting) -> Plan:
        family, model = self.loaded.family, self.loaded.model
        scores = {}
        for index, site in enumerate(family.sites(model)):
            weight = family.block_list(model)[site.block].get_submodule(site.consumer).weight
            scores[site.name] = SCORES[setting.score](
                weight.detach(),
                self.dense(site),
                keep=self.recipe.keep,
                generator=torch.Generator().manual_seed(index),
            )
        return allocate(family.sites(model), scores, self.recipe.keep, setting.allocation)

    def dense(self, site: Site) -> calibrate.Statistics:
        return statistics_folder.read_site(self.statistics, site)

    def pruned(self, plan: Plan, repair: Any) -> Any:
        model, family, batch = self.loaded.model, self.loaded.family, self.recipe.calibration.batch
        if repair.order == "sequential":
            return prune.sequential(
                model, family, plan, repair, self.calibration, batch, lambda _: None
            )
        return prune.one_shot(model, family, plan, repair, self.dense)

    def perplexity(self, model: Any) -> float:
        with TorchRunner(model, threads=None) as runner:
            batch = self.recipe.evaluation.batch
            return perplexity(runner, self.evaluation.tokens, batch=batch).value


def prepare(chosen: Recipe, search: list[Path], folder: Path) -> Bench:
    source = resolve(chosen.model.source, revision=chosen.model.revision, search=search)
    loaded = load_source(source, getattr(torch, chosen.model.dtype))
    assert loaded.tokenizer is not None
    windows = corpus.draw(chosen.calibration, loaded.tokenizer, search)
    found = calibrate.collect(
        loaded.model, loaded.family, windows, chosen.calibration.batch, lambda _: None
    )
    for block, statistics in enumerate(found):
        statistics_folder.write_block(folder, block, statistics)
    evaluation = corpus.draw(chosen.evaluation, loaded.tokenizer, search)
    return Bench(chosen, loaded, windows, evaluation, folder)


def settings(suite: str) -> Iterator[Setting]:
    """`scores`: every score under one repair. `repairs`: the leaders under every other choice.
    `leaders`: the leading scores as a recipe would run them."""
    if suite == "scores":
        for score in SCORES:
            for standardise in (True, False):
                yield Setting(score, Allocation(standardise=standardise), "closed_form one_shot")
    elif suite == "repairs":
        yield Setting("numerical", Allocation(method="literal"), "closed_form one_shot")
        for score in ("numerical", "flap"):
            yield Setting(score, Allocation(method="uniform"), "closed_form one_shot")
            yield Setting(score, Allocation(), "bias one_shot")
            yield Setting(score, Allocation(), "none")
    elif suite == "leaders":
        for score in ("numerical", "wanda", "flap"):
            yield Setting(score, Allocation(), "closed_form sequential")
    else:
        raise typer.BadParameter(f"no suite `{suite}`: scores, repairs or leaders")


def main(
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    suite: Annotated[str, typer.Option(help="scores, repairs or leaders.")] = "scores",
    change: Annotated[list[str] | None, typer.Option("--set", help="As for `run`.")] = None,
) -> None:
    path = recipe.locate(name)
    chosen = recipe.load(path, change or ())
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(chosen, [path.parent, Path.cwd()], Path(folder))
        dense = bench.perplexity(bench.loaded.model)
        lines = [
            f"`python benchmarks/scores.py {name} --suite {suite}`, keep {chosen.keep}, calibration seed"
            f" {chosen.calibration.seed}",
            "",
            "| score | allocation | compensation | kept | perplexity | over dense | seconds |",
            "|---|---|---|---:|---:|---:|---:|",
            f"| dense | | | 1.000 | {dense:.2f} | 0.00 | |",
        ]
        for setting in settings(suite):
            start = time.perf_counter()
            plan = bench.plan(setting)
            found = bench.perplexity(bench.pruned(plan, REPAIRS[setting.repair]))
            seconds = time.perf_counter() - start
            lines.append(
                f"| {setting.name} | {plan.keep:.3f} | {found:.2f} | {found - dense:.2f} | {seconds:.0f} |"
            )
            typer.echo(lines[-1])
            out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
