"""Budgets below the floors are refused from shapes alone, and none above them is."""

import pytest
import torch

from numprune_export.core.errors import RecipeError
from numprune_export.models.site import Producer
from numprune_export.pruning.allocate.budget import rounded_up
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.floors import require_reachable
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.plan import Site


def sites(groups=()):
    query = (Producer("q", 4), Producer("k", 4, shared=bool(groups)))
    return [
        site
        for block in range(2)
        for site in (
            Site(block, "attention", 4, query, "o", 4, 40, groups=groups, shared_cost=30),
            Site(block, "mlp", 24, (Producer("up", 1),), "down", 1, 9),
        )
    ]


def parameters(kept_heads, kept_neurons):
    return 2 * (kept_heads * 40 + kept_neurons * 9)


@pytest.mark.parametrize(
    ("settings", "heads", "neurons"),
    [
        (Allocation(min_keep=0.5, align_to=8), 2, 16),
        (Allocation(min_keep=0.0, align_to=24), 1, 24),
        (Allocation(method="uniform", min_keep=0.3), 2, 8),
        (Curves(min_keep=0.5), 2, 16),
        (Curves(min_keep=0.1), 1, 8),
        (Search(min_keep=0.75, cost="parameters"), 3, 18),
    ],
)
def test_the_smallest_budget_is_what_the_floors_cost(settings, heads, neurons):
    smallest = parameters(heads, neurons) / parameters(4, 24)
    require_reachable(sites(), settings, [smallest], Site.cost)
    with pytest.raises(RecipeError, match=f"the smallest possible is {rounded_up(smallest)}$"):
        require_reachable(sites(), settings, [smallest - 1e-6], Site.cost)


def test_what_is_refused_here_is_what_the_allocator_would_refuse():
    settings, scores = Allocation(min_keep=0.5), {}
    for site in sites():
        scores[site.name] = torch.arange(float(site.units * site.consumer_width))
    for percent in range(1, 100):
        early = late = False
        try:
            require_reachable(sites(), settings, [percent / 100], Site.cost)
        except RecipeError:
            early = True
        try:
            allocate(sites(), scores, percent / 100, settings)
        except RecipeError:
            late = True
        assert early == late, percent


def test_later_rounds_have_their_floors_of_what_is_left():
    """Half of half: what one round may not reach, two may."""
    settings = Allocation(min_keep=0.5, align_to=1)
    with pytest.raises(RecipeError):
        require_reachable(sites(), settings, [0.3], Site.cost)
    require_reachable(sites(), settings, [0.3**0.5, 0.3], Site.cost)
    with pytest.raises(RecipeError):
        require_reachable(sites(), settings, [0.2**0.5, 0.2], Site.cost)


def test_shared_keys_count_for_the_cheapest_choice_of_heads():
    """Two heads of one KV head cost 2*40 + 30; of two KV heads 2*40 + 60."""
    blocks = sites(groups=(2, 2))
    whole = sum(site.parameters for site in blocks)
    smallest = 2 * (2 * 40 + 30 + 16 * 9) / whole
    require_reachable(blocks, Allocation(min_keep=0.5), [smallest], Site.cost)
    with pytest.raises(RecipeError):
        require_reachable(blocks, Allocation(min_keep=0.5), [smallest - 1e-6], Site.cost)


def test_uneven_blocks_cannot_be_pruned_alike():
    uneven = [*sites(), Site(2, "mlp", 16, (Producer("up", 1),), "down", 1, 9)]
    with pytest.raises(RecipeError, match="whose blocks all have the same widths"):
        Allocation(method="uniform").require_even(uneven)
    Allocation(method="global").require_even(uneven)
