"""Checks of recipe, configuration and shapes, before weights are read."""

from __future__ import annotations

from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.errors import RecipeError
from numprune_export.data.corpus_settings import Corpus
from numprune_export.export import targets
from numprune_export.export.exporter import ChecksNetworks, Exporter, require_network
from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.pruning.allocate import budget_search
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.cost import ForwardPass, price_of
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.floors import require_reachable
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.recipe import Recipe
from numprune_export.recipe.conflicts import timing_of


def require_possible(recipe: Recipe, family: Family, model: PreTrainedModel) -> None:
    """Reject a run that would fail for any weights and texts.

    Args:
        recipe: The recipe of the run.
        family: Of the dense model, with the recipe's `query_heads`.
        model: Skeleton of the dense model; only shapes and configuration are read.

    Raises:
        RecipeError: the recipe needs more positions than the model has, its floors exceed the
            budget, the budget is unsupported for the model, or settings of a target are invalid.
        UnsupportedModelError: a target cannot express the model.
    """
    _require_positions(recipe, family, model)
    for name, content in recipe.targets.items():
        exporter = targets.find(name)
        settings = targets.settings_for(exporter, content)
        _require_target(exporter, settings, family, model, _longest(recipe))
    _require_timing(recipe, family)
    evaluation = recipe.evaluation
    length = float(evaluation.tokens_per_sequence) if isinstance(evaluation, Corpus) else None
    require_budget(recipe, family, model, length)


def require_budget(
    recipe: Recipe, family: Family, model: PreTrainedModel, length: float | None
) -> None:
    """Reject a `keep` that is below the smallest plan that floors and alignment allow.

    Args:
        recipe: With `keep`, `rounds` and the allocator's settings.
        family: Of the dense model.
        model: Skeleton of the dense model: shapes and configuration.
        length: Tokens of an evaluated text; None: unknown, and budgets of multiply-accumulates are
            not checked.

    Raises:
        RecipeError: even the smallest plan is above the budget.
    """
    settings, sites = recipe.allocate, family.sites(model)
    keeps = [recipe.keep ** (number / recipe.rounds) for number in range(1, recipe.rounds)]
    keeps.append(recipe.keep)
    if isinstance(settings, Allocation):
        settings.require_even(sites)
        require_reachable(sites, settings, keeps, Site.cost)
    elif isinstance(settings, LatencyBudget) or timing_of(settings) is not None:
        return  # a latency budget depends on measurements
    elif settings.cost != "macs" or settings.length or length:
        hidden = int(model.config.hidden_size)
        forward = ForwardPass(hidden, settings.length or length or 1.0, family.causal)
        if isinstance(settings, Curves):
            price = price_of(settings, forward)
            require_reachable(sites, settings, keeps, price)
        else:
            assert isinstance(settings, Search)
            costs = budget_search.unit_costs(settings, sites, forward)
            require_reachable(
                sites, settings, keeps, lambda site, kept: len(kept) * costs[site.name]
            )


def _require_target(
    exporter: Exporter, settings: BaseModel, family: Family, model: PreTrainedModel, longest: int
) -> None:
    network = family.network(model)
    require_network(exporter, network.kind)
    if isinstance(exporter, ChecksNetworks):
        exporter.check(network, settings, longest)


def _require_positions(recipe: Recipe, family: Family, model: PreTrainedModel) -> None:
    """Windows of a language model are never cut; an encoder's benchmark skips longer lengths."""
    if family.kind == "encoder":
        positions, shortest = family.network(model).max_positions, min(recipe.benchmark.lengths)
        lengths = {"benchmark.lengths": shortest}
    else:
        positions, lengths = int(model.config.max_position_embeddings), _sequences(recipe)
    for key, tokens in lengths.items():
        if tokens > positions:
            raise RecipeError(
                f"`{key}` asks for {tokens} tokens, but the model has {positions} positions",
                hint=f"lower it to at most {positions} tokens",
            )


def _sequences(recipe: Recipe) -> dict[str, int]:
    """Sequence lengths in tokens that the recipe asks of a language model, by recipe key."""
    timed, texts = recipe.benchmark, ("calibration", "evaluation")
    windows = {
        f"{name}.tokens_per_sequence": corpus.tokens_per_sequence
        for name in texts
        if isinstance(corpus := getattr(recipe, name), Corpus)
    }
    decoded = timed.past + timed.decode_steps
    return windows | {
        "benchmark.prefill": timed.prefill,
        "benchmark.past` and `decode_steps": decoded,
    }


def _longest(recipe: Recipe) -> int:
    """Tokens of the longest sequence that an artifact must support."""
    lengths = _sequences(recipe)
    lengths.pop("calibration.tokens_per_sequence", None)
    return max(lengths.values())


def _require_timing(recipe: Recipe, family: Family) -> None:
    timing = timing_of(recipe.allocate)
    if timing is None:
        return
    if family.kind != "encoder":
        raise RecipeError(
            f"latency budgets are supported for encoders only, not for `{family.model_type}`",
            hint="give a budget in parameters or MACs: `allocate: {method: curves, cost: macs}`",
        )
    if timing.target not in recipe.targets:
        raise RecipeError(
            f"`allocate.target`: `{timing.target}` is not one of the recipe's targets",
            hint=f"the recipe has {', '.join(f'`{name}`' for name in recipe.targets)}",
        )
