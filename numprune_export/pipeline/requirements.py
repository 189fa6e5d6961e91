"""What recipe, configuration and shapes decide, asked before weights are read."""

from __future__ import annotations

from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.errors import RecipeError
from numprune_export.data.corpus import Corpus
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
    """Refuse a run that would fail whatever its weights and texts are.

    Args:
        recipe: What would be done.
        family: Of the dense model, as the recipe has its query heads.
        model: Its skeleton: only shapes and configuration are looked at.

    Raises:
        RecipeError: more tokens than the model has positions, a budget that its floors exceed or that
            is not for such a model, settings of a target that do not fit it.
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
    """Refuse a `keep` that floors and alignment alone exceed.

    Args:
        recipe: With `keep`, `rounds` and the allocator's settings.
        family: Of the dense model.
        model: Its skeleton: shapes and configuration.
        length: Tokens of an evaluated text; None: not known yet, and a budget of multiply-accumulates
            is not looked at.

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
        return  # what milliseconds allow is measured
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
    """A language model sees every window whole; an encoder's benchmark takes what fits."""
    if family.kind == "encoder":
        positions, shortest = family.network(model).max_positions, min(recipe.benchmark.lengths)
        asked = {"benchmark.lengths": shortest}
    else:
        positions, asked = int(model.config.max_position_embeddings), _sequences(recipe)
    for key, tokens in asked.items():
        if tokens > positions:
            raise RecipeError(
                f"`{key}` asks for {tokens} tokens, and the model has {positions} positions",
                hint=f"lower it: no sequence of this model is longer than {positions} tokens",
            )


def _sequences(recipe: Recipe) -> dict[str, int]:
    """What the recipe asks of a language model's context, by the key that says it."""
    timed, texts = recipe.benchmark, ("calibration", "evaluation")
    windows = {
        f"{name}.tokens_per_sequence": one.tokens_per_sequence
        for name in texts
        if isinstance(one := getattr(recipe, name), Corpus)
    }
    decoded = timed.past + timed.decode_steps
    return windows | {
        "benchmark.prefill": timed.prefill,
        "benchmark.past` and `decode_steps": decoded,
    }


def _longest(recipe: Recipe) -> int:
    """Tokens of the longest sequence that an artifact must hold."""
    asked = _sequences(recipe)
    asked.pop("calibration.tokens_per_sequence", None)
    return max(asked.values())


def _require_timing(recipe: Recipe, family: Family) -> None:
    timing = timing_of(recipe.allocate)
    if timing is None:
        return
    if family.kind != "encoder":
        raise RecipeError(
            f"latency budgets are supported for encoders only, not for `{family.model_type}`",
            hint="give one in parameters or MACs: `allocate: {method: curves, cost: macs}`",
        )
    if timing.target not in recipe.targets:
        raise RecipeError(
            f"`allocate.target`: `{timing.target}` is not one of the recipe's targets",
            hint=f"it has {', '.join(f'`{name}`' for name in recipe.targets)}",
        )
