"""Checks of recipe, configuration and shapes, before weights are read."""

from __future__ import annotations

from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.errors import DeviceError, RecipeError
from numprune_export.core.host_memory import available_bytes
from numprune_export.data.corpus_settings import Corpus
from numprune_export.export import targets
from numprune_export.export.exporter import ChecksNetworks, Exporter, require_network
from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.calibrate import reads_moments
from numprune_export.pruning.allocate import budget_search
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.cost import ForwardPass, price_of
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.floors import require_reachable
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.pruning.compensate.none import Nothing
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


def require_memory(recipe: Recipe, dense: Dense, texts: CalibrationTexts) -> None:
    """Reject a run on the CPU that takes more memory than the machine, or its container, has left.

    A lower bound: weights, one batch at the widest consumer with its copy for sums, sums of one
    block, and one linear system; hidden states of all texts may wait in files. Full memory would end
    the process without a word.

    Raises:
        DeviceError: there is less memory.
    """
    if dense.device.type != "cpu" or not _holds_texts(recipe):
        return
    moments, sites = texts.moments, dense.family.sites(dense.skeleton)
    size, longest = dense.dtype.itemsize, int(moments.lengths.max())
    widest = max((site.inputs for site in sites), default=1)
    blocks = {site.block for site in sites}
    sums = max(
        (sum(4 * site.inputs**2 for site in sites if site.block == block) for block in blocks),
        default=0,
    )
    system = 0 if dense.placement.streamed else 2 * 8 * widest**2  # `taken` has it
    work = {
        "a batch": (size + 4) * min(texts.batch, len(moments.tokens)) * longest * widest,
        "sums": sums + system,
    }
    need, left = dense.placement.taken + sum(work.values()), available_bytes()
    if need <= left:
        return
    parts = ", ".join(f"{_size(part)} for {name}" for name, part in work.items())
    raise DeviceError(
        f"pruning on the CPU takes at least {_size(need)} ({_size(dense.placement.taken)} for weights,"
        f" {parts}), but {_size(left)} of memory are left",
        hint="lower `calibration.batch` or `calibration.tokens_per_sequence` (`max_length` of examples),"
        " set `stream_weights: true`, or raise the container's limit",
    )


def _holds_texts(recipe: Recipe) -> bool:
    """Whether a stage runs all texts block by block."""
    return reads_moments(recipe) or not isinstance(recipe.compensate, Nothing)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


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
