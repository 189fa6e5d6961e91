"""All allocators by one call: the budget is kept to, and one that cannot be met is refused alike."""

import pytest
import torch
from small_sites import sites

from numprune_export.core.errors import RecipeError
from numprune_export.core.metric import Metric
from numprune_export.numerics.removal_order import additive
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.cost import ForwardPass, site_macs
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.budget import Measured
from numprune_export.pruning.allocate.latency.settings import LatencyBudget, Timing
from numprune_export.pruning.allocate.latency.table import LatencyTable
from numprune_export.pruning.allocate.rearrange import block_loss
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.pruning.allocate_sites import CostBasis, allocate
from numprune_export.pruning.score_sites import SiteScore

HEADS, NEURONS = 4, 24
FORWARD = ForwardPass(hidden=16, length=10.0, causal=False)
MILLISECONDS = {
    "attention": {heads: 1.0 * heads for heads in range(1, HEADS + 1)},
    "mlp": {neurons: 0.25 * neurons for neurons in range(1, NEURONS + 1)},
}
DENSE_MS = 2 * (HEADS + 0.25 * NEURONS) + 1.0
TABLE = Measured(LatencyTable(MILLISECONDS, DENSE_MS, 1.0), None)

BY_PARAMETERS = [
    Allocation(align_to=1),
    Search(cost="parameters"),
    Curves(attention=1.0, align_to=1),
]
BY_MACS = [Search(), Curves(attention=1.0, align_to=1, cost="macs")]
BY_TIME = [
    LatencyBudget(rounds=3),
    Curves(attention=1.0, align_to=1, cost="milliseconds", timing=Timing(rounds=3)),
]
METHODS = [*BY_PARAMETERS, *BY_MACS, *BY_TIME]
FLOORED = [method.model_copy(update={"min_keep": 0.8}) for method in METHODS]


def name_of(method):
    return f"{method.method}-{getattr(method, 'cost', '')}"


def scored(model_sites, seed=0):
    generator = torch.Generator().manual_seed(seed)
    result = []
    for site in model_sites:
        units = torch.rand(site.units, generator=generator, dtype=torch.float64) + 0.01
        columns = units.repeat_interleave(site.consumer_width)
        result.append(SiteScore(site, columns, additive(units)))
    return result


def whole_model():
    return sites(blocks=2, heads=HEADS, neurons=NEURONS)


def basis(dense):
    return CostBasis(dense, FORWARD, TABLE)


def parameters(plan):
    return sum(site.cost(plan.kept[site.name]) for site in plan.sites)


def macs(plan):
    return sum(
        site_macs(site, plan.kept[site.name], FORWARD.hidden, FORWARD.length, causal=False)
        for site in plan.sites
    )


def milliseconds(plan):
    times = {"attention": 1.0, "mlp": 0.25}
    return 1.0 + sum(times[site.kind] * len(plan.kept[site.name]) for site in plan.sites)


@pytest.mark.parametrize("keep", [0.35, 0.6, 0.9])
@pytest.mark.parametrize(
    ("method", "cost"),
    [
        *((method, parameters) for method in BY_PARAMETERS),
        *((method, macs) for method in BY_MACS),
        *((method, milliseconds) for method in BY_TIME),
    ],
    ids=lambda value: value.__name__ if callable(value) else name_of(value),
)
def test_what_stays_costs_at_most_the_budget_and_uses_most_of_it(method, cost, keep):
    dense = whole_model()
    plan = allocate(scored(dense), method, keep, basis(dense)).plan
    full = cost(type(plan)(plan.sites, {site.name: tuple(range(site.units)) for site in dense}))
    assert 0.8 * keep * full < cost(plan) <= keep * full * (1 + 1e-9)


@pytest.mark.parametrize("method", FLOORED, ids=name_of)
def test_a_budget_that_no_plan_can_meet_is_refused_in_one_wording(method):
    dense = whole_model()
    with pytest.raises(RecipeError, match="cannot be met: the smallest possible is") as caught:
        allocate(scored(dense), method, 0.3, basis(dense))
    assert "`min_keep` (0.8)" in caught.value.hint


@pytest.mark.parametrize("method", [BY_PARAMETERS[0], BY_PARAMETERS[2]], ids=name_of)
def test_a_later_rounds_budget_is_of_the_dense_model(method):
    """What an earlier round left is most of the budget already: nearly all of it stays."""
    dense, left = whole_model(), sites(blocks=2, heads=3, neurons=18)
    keep = sum(site.parameters for site in left) / sum(site.parameters for site in dense)
    plan = allocate(scored(left), method, keep, basis(dense)).plan
    assert all(len(plan.kept[site.name]) == site.units for site in left)
    smaller = allocate(scored(left), method, 0.9 * keep, basis(dense)).plan
    assert parameters(smaller) <= 0.9 * keep * sum(site.parameters for site in dense)


def test_of_several_weights_of_attention_the_nearest_model_is_taken():
    dense, method = whole_model(), Curves(attention=(1.0, 50.0), align_to=1)

    def heads_lost(plan):
        gone = sum(len(plan.removed(site)) for site in plan.sites if site.kind == "attention")
        return Metric(float(gone), "nats", 1)

    inputs = scored(dense), method, 0.5, basis(dense)
    fewest = allocate(*inputs, divergence=heads_lost)
    most = allocate(*inputs, divergence=lambda plan: Metric(-heads_lost(plan).value, "nats", 1))
    assert heads_lost(fewest.plan).value < heads_lost(most.plan).value
    assert fewest.metrics["allocation.attention_weight"].value == 50.0
    assert most.metrics["allocation.attention_weight"].value == 1.0
    with pytest.raises(ValueError, match="need a `divergence`"):
        allocate(*inputs)


@pytest.mark.parametrize("method", [BY_MACS[0], BY_TIME[0]], ids=name_of)
def test_units_are_swapped_by_gradients_where_there_are_any(method):
    dense = whole_model()
    generator = torch.Generator().manual_seed(1)
    gradients = {site.name: torch.randn(40, site.units, generator=generator) for site in dense}
    inputs = scored(dense), method, 0.5, basis(dense)
    plain, swapped = allocate(*inputs).plan, allocate(*inputs, gradients=gradients).plan
    unswapped = method.model_copy(update={"rearrange": False})
    assert allocate(inputs[0], unswapped, *inputs[2:], gradients=gradients).plan == plain

    def loss(plan):
        return sum(block_loss(gradients[site.name], plan.kept[site.name]) for site in dense)

    assert loss(swapped) < loss(plain)
    for site in dense:
        assert len(swapped.kept[site.name]) == len(plain.kept[site.name])


@pytest.mark.parametrize("method", BY_TIME, ids=name_of)
def test_a_budget_in_milliseconds_tells_what_it_predicts(method):
    dense = whole_model()
    allocated = allocate(scored(dense), method, 0.5, basis(dense))
    predicted = allocated.metrics["budget.onnx.b1.l128.predicted_ms"].value
    assert predicted == pytest.approx(milliseconds(allocated.plan))
    assert allocated.metrics["budget.onnx.b1.l128.limit_ms"].value == pytest.approx(0.5 * DENSE_MS)
