"""What one unit costs: multiply-accumulates at a length, parameters, or bytes.

Embeddings, norms, softmax and the task head cost the same in any plan and are left out, as in Kwon
et al. 2022 (arXiv:2204.09656, §3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numprune_export.plan import Site

UnitCosts = Mapping[str, int]
"""By site name, what one unit of the site costs."""


def unit_macs(
    sites: Sequence[Site], hidden: int, length: float, *, causal: bool = False
) -> dict[str, int]:
    """Multiply-accumulates of one unit for one sequence, rounded to whole ones.

    A head of width d_h at length s and hidden size d costs 3·s·d·d_h for query, key and value,
    2·s²·d_h for the scores and the weighted sum, and s·d_h·d for its output; a neuron costs 2·s·d,
    3·s·d with a gate. A group of query heads on one key and value counts each projection it has.

    Args:
        sites: What can be pruned.
        hidden: d.
        length: s, tokens of a sequence; the paper takes the mean of its evaluation set.
        causal: A token sees only itself and what is before it: s·(s+1)/2 pairs instead of s².
    """
    pairs = length * (length + 1) / 2 if causal else length * length
    found = {}
    for site in sites:
        columns = site.consumer_width + sum(one.width for one in site.producers)
        seen = 2 * pairs * site.consumer_width if site.kind == "attention" else 0
        found[site.name] = round(length * hidden * columns + seen)
    return found


def unit_parameters(sites: Sequence[Site]) -> dict[str, int]:
    """Parameters that a unit takes with it, biases included."""
    return {site.name: site.unit_cost for site in sites}


def total(sites: Sequence[Site], costs: UnitCosts, kept: Mapping[str, Sequence[int]]) -> int:
    """What the kept units cost together."""
    return sum(len(kept[site.name]) * costs[site.name] for site in sites)


def whole(sites: Sequence[Site], costs: UnitCosts) -> int:
    """What all units cost together."""
    return sum(site.units * costs[site.name] for site in sites)
