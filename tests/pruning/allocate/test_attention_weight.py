"""The weight of attention: the nearest model wins, and no plan is tried twice."""

from numprune_export.core.metric import Metric
from numprune_export.models.site import Producer, Site
from numprune_export.pruning.allocate.attention_weight import tuned
from numprune_export.pruning.plan import Plan

SITE = Site(0, "mlp", 4, (Producer("up", 1),), "down", 1, 9)
PLANS = {
    1.0: Plan((SITE,), {SITE.name: (0,)}),
    2.0: Plan((SITE,), {SITE.name: (1,)}),
    3.0: Plan((SITE,), {SITE.name: (1,)}),
}


def test_the_nearest_wins_and_equal_plans_are_tried_once():
    tried, expected = [], []

    def divergence(plan):
        tried.append(plan)
        return Metric(0.5 if plan == PLANS[1.0] else 0.2, "nats", 7)

    plan, metrics = tuned(PLANS.get, (1.0, 2.0, 3.0), divergence, expected.append)
    assert plan == PLANS[2.0]
    assert len(tried) == 2
    assert expected == [2]
    assert metrics["allocation.attention_weight"].value == 2.0
    assert metrics["allocation.divergence.attention_3x"].value == 0.2


def test_a_single_weight_is_taken_as_it_is():
    plan, metrics = tuned(PLANS.get, (3.0,), lambda _: 1 / 0, lambda _: None)
    assert (plan, metrics) == (PLANS[3.0], {})
