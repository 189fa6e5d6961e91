"""Recipe settings of the exact budget search, and the plan that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from numprune_export.pruning.allocate import cost as macs
from numprune_export.pruning.allocate.budget_search import search
from numprune_export.pruning.allocate.cost import UnitCosts
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan, Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Search(Widths):
    """`search`: the plan of the highest summed score whose cost is at most `keep` of the whole (Kwon
    et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["search"] = "search"
    cost: Literal["macs", "parameters", "bytes"] = "macs"
    """What `keep` is a fraction of. A fraction in bytes is that in parameters."""
    length: PositiveFloat | None = None
    """Tokens of a text that multiply-accumulates are counted at; null: the mean of the calibration
    data. Published: that of the evaluation data."""
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by its whole Fisher information, §4.2. Other
    scores have none, and it does nothing."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; one round as published."""


def unit_costs(settings: Search, sites: Sequence[Site], config: Any, length: float) -> UnitCosts:
    """The cost of a unit of each site.

    Args:
        config: The model's; its hidden size and whether attention is causal count.
        length: Tokens of a text, unless the settings say.
    """
    assert not any(site.groups for site in sites), "units share parameters: none has its own cost"
    if settings.cost != "macs":
        return macs.unit_parameters(sites)
    return macs.unit_macs(
        sites, int(config.hidden_size), settings.length or length, causal=macs.is_causal(config)
    )


def plan(
    settings: Search,
    sites: Sequence[Site],
    scores: Mapping[str, Float[Tensor, " n"]],
    costs: UnitCosts,
    keep: float,
) -> Plan:
    """The plan for a budget of `keep` of the whole cost, before any rearrangement.

    Args:
        scores: By site name, one score per input of the consumer, not negative; a unit is worth the
            mean over its inputs, of which the Fisher score gives each the same.

    Raises:
        RecipeError: no plan is that small; the message says the smallest.
        NumericalError: a score is not finite.
    """
    importance = {
        site.name: scores[site.name].double().reshape(site.units, site.consumer_width).mean(1)
        for site in sites
    }
    return search(sites, importance, costs, keep * macs.whole(sites, costs), settings)
