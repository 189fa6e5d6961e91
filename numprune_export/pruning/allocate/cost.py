"""What one unit costs: multiply-accumulates at a length, parameters, or bytes.

Embeddings, norms, softmax and the task head cost the same in any plan and are left out, as in Kwon
et al. 2022 (arXiv:2204.09656, §3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numprune_export.models.site import Site
from numprune_export.pruning.allocate.error_curves import Curves, Price


@dataclass(frozen=True)
class ForwardPass:
    """One sequence through a model: what multiply-accumulates depend on beside the widths."""

    hidden: int
    """Size of the residual stream."""
    length: float
    """Tokens; a mean need not be a whole number."""
    causal: bool
    """A token attends only to itself and to earlier tokens."""


UnitCosts = Mapping[str, int]
"""By site name, what one unit of the site costs."""


def unit_macs(
    sites: Sequence[Site], hidden: int, length: float, *, causal: bool = False
) -> dict[str, int]:
    """Multiply-accumulates of one unit for one sequence, rounded to whole ones, without what it
    shares with others.

    A head of width d_h at length s and hidden size d costs 3·s·d·d_h for query, key and value,
    2·s²·d_h for the scores and the weighted sum, and s·d_h·d for its output; a neuron costs 2·s·d,
    3·s·d with a gate. A group of query heads on one key and value counts each projection it has.

    Args:
        sites: What can be pruned.
        hidden: d.
        length: s, tokens of a sequence; the paper takes the mean of its evaluation set.
        causal: A token sees only itself and what is before it: s·(s+1)/2 pairs instead of s².
    """
    return {site.name: _macs(site, hidden, length, causal=causal)[0] for site in sites}


def site_macs(site: Site, kept: Sequence[int], hidden: int, length: float, *, causal: bool) -> int:
    """Multiply-accumulates of these units of a site for one sequence, with what they share: the key
    and value of query heads. See `unit_macs`."""
    own, shared = _macs(site, hidden, length, causal=causal)
    return len(kept) * own + len(site.members(kept)) * shared


def _macs(site: Site, hidden: int, length: float, *, causal: bool) -> tuple[int, int]:
    """Of one unit, and of what a group of units shares."""
    pairs = length * (length + 1) / 2 if causal else length * length
    columns = site.consumer_width + sum(one.width for one in site.producers if not one.shared)
    shared = sum(one.width for one in site.producers if one.shared)
    seen = 2 * pairs * site.consumer_width if site.kind == "attention" else 0
    return round(length * hidden * columns + seen), round(length * hidden * shared)


def unit_parameters(sites: Sequence[Site]) -> dict[str, int]:
    """Parameters that a unit takes with it, biases included."""
    return {site.name: site.unit_cost for site in sites}


def total(sites: Sequence[Site], costs: UnitCosts, kept: Mapping[str, Sequence[int]]) -> int:
    """What the kept units cost together."""
    return sum(len(kept[site.name]) * costs[site.name] for site in sites)


def whole(sites: Sequence[Site], costs: UnitCosts) -> int:
    """What all units cost together."""
    return sum(site.units * costs[site.name] for site in sites)


def price_of(settings: Curves, forward: ForwardPass) -> Price:
    """The cost of a site's kept units, with what they share; multiply-accumulates at the settings'
    length if they give one."""
    if settings.cost in ("parameters", "bytes"):
        return Site.cost
    length = settings.length or forward.length

    def price(site: Site, kept: Sequence[int]) -> float:
        return site_macs(site, kept, forward.hidden, length, causal=forward.causal)

    return price
