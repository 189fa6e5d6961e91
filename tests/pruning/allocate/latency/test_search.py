"""Latency tables, the curves through them, and the search against every plan there is."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from small_sites import best_prefix, every_plan, random_importance, sites, worth

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.pruning.allocate.latency.curve import Polyline, fit_polyline, fitted, predict
from numprune_export.pruning.allocate.latency.search import GRID, search_curves
from numprune_export.pruning.allocate.latency.table import LatencyTable, alone, measure
from numprune_export.pruning.allocate.widths import Widths


def ramp(base, threshold, slope):
    """`base` up to `threshold` units, then `slope` more for every further one."""
    return Polyline((threshold, threshold + 10), (base, base + 10 * slope))


def stairs(steps):
    return Polyline(tuple(range(1, len(steps) + 1)), tuple(itertools.accumulate(steps)))


ANY_CURVE = st.one_of(
    st.builds(
        ramp, st.floats(0.1, 3), st.integers(1, 3), st.one_of(st.just(0.0), st.floats(0.01, 1))
    ),
    st.builds(stairs, st.lists(st.floats(0.0, 1), min_size=4, max_size=6).map(lambda x: [0.1, *x])),
)


DENSE = ((2, 8), (2, 8), (2, 6))
WIDTHS = {"attention": [2, 1], "mlp": [8, 4, 8]}


def of_blocks(blocks, head=3.0, neuron=0.5, block=0.25, rest=2.0):
    """What a model of these blocks would take if nothing disturbed it."""
    return rest + sum(head * h + neuron * n + block for h, n in blocks)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_sublayer_is_what_its_models_take_more_than_the_frame(rounds):
    calls = []

    def timer(blocks):
        calls.append(blocks)
        return of_blocks(blocks)

    table = measure(timer, DENSE, WIDTHS, rounds=rounds)
    assert table.milliseconds["attention"] == pytest.approx({1: 3.0, 2: 6.0})
    assert table.milliseconds["mlp"] == pytest.approx({4: 2.0, 8: 4.0})
    assert (table.dense_ms, table.empty_ms) == pytest.approx((of_blocks(DENSE), 2.75))
    anchor = ((2, 8),) * 2
    assert calls[::2] == [anchor] * (7 * rounds + 1)
    assert {calls.count(shape) for shape in (((1, 0),) * 2, ((0, 4),) * 2, DENSE)} == {rounds}


def test_a_machine_that_is_slowed_down_for_a_while_changes_no_ratio():
    """Twice as slow from the third call to far beyond the middle; the last rounds are quiet."""
    number = itertools.count()

    def timer(blocks):
        return of_blocks(blocks) * (2 if 3 <= next(number) < 60 else 1)

    quiet = measure(of_blocks, DENSE, WIDTHS, rounds=9)
    loaded = measure(timer, DENSE, WIDTHS, rounds=9)
    again = loaded.at(quiet.dense_ms)
    assert loaded.dense_ms / quiet.dense_ms in (pytest.approx(1.0), pytest.approx(2.0))
    for kind, column in quiet.milliseconds.items():
        assert again.milliseconds[kind] == pytest.approx(column)
    assert again.empty_ms == pytest.approx(quiet.empty_ms)


def test_the_dense_model_alone_is_timed_after_its_anchor_as_in_a_table():
    calls, times = [], iter([1.0, 5.0, 1.0, 9.0, 1.0, 6.0])

    def timer(blocks):
        calls.append(blocks)
        return next(times)

    assert alone(timer, DENSE, rounds=3) == 6.0
    assert calls == [((2, 8),) * 2, DENSE] * 3


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(NumericalError, match="latency of blocks of 0"):
        measure(lambda blocks: 1.0 if any(map(any, blocks)) else time, DENSE, {"mlp": [8]})


def test_units_that_take_no_time_are_refused():
    with pytest.raises(NumericalError, match="without heads and neurons"):
        measure(lambda blocks: of_blocks(blocks, head=-0.1, neuron=0), DENSE, WIDTHS)


def test_a_width_measured_as_faster_than_nothing_still_takes_time():
    def timer(blocks):
        return of_blocks(blocks) * (0.2 if blocks == ((1, 0),) * 2 else 1)

    assert 0 < measure(timer, DENSE, WIDTHS).milliseconds["attention"][1] < 0.01


def table_of(**columns):
    return LatencyTable(columns, dense_ms=40.0, empty_ms=4.0)


def test_a_table_survives_json():
    table = table_of(attention={1: 0.5, 12: 2.0}, mlp={64: 0.25})
    assert LatencyTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_the_curves_leave_nothing_of_the_dense_model_unexplained():
    model_sites = sites(heads=[3, 2], neurons=[5, 4])
    table = table_of(attention={1: 1.0, 2: 2.5, 3: 2.0}, mlp={1: 1.0, 5: 4.0})
    by_kind = fitted(model_sites, table)
    whole = [site.units for site in model_sites]
    assert predict(model_sites, whole, by_kind) + table.empty_ms == pytest.approx(table.dense_ms)
    assert by_kind["attention"](1) / by_kind["mlp"](5) == pytest.approx(1.0 / 4.0)
    assert by_kind["attention"](2) == by_kind["attention"](3)  # never falling


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=12))
def test_the_polyline_is_the_isotonic_fit_at_its_knots(times):
    polyline = fit_polyline({4 * (i + 1): time for i, time in enumerate(times)})
    np.testing.assert_allclose(polyline.milliseconds, isotonic_regression(times).x, rtol=1e-9)


def test_between_knots_the_polyline_is_straight_and_before_the_first_it_is_flat():
    polyline = fit_polyline({10: 1.0, 20: 3.0})
    assert [polyline(n) for n in (0, 1, 10, 15, 20)] == [0, 1, 1, 2, 3]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    fraction=st.floats(0, 1),
    curves=st.tuples(ANY_CURVE, ANY_CURVE),
    floor=st.sampled_from([0.0, 0.4]),
    fixed=st.sampled_from([0.0, 1.5, -0.2]),
)
def test_the_knapsack_finds_the_best_plan(seed, fraction, curves, floor, fixed):
    model_sites = sites(heads=[3, 2], neurons=[5, 4])
    importance = random_importance(model_sites, seed)
    by_kind, widths = dict(zip(("attention", "mlp"), curves, strict=True)), Widths(min_keep=floor)
    times = {
        chosen: predict(model_sites, chosen, by_kind) + fixed
        for chosen in every_plan(model_sites, widths.counts)
    }
    budget = min(times.values()) + fraction * (max(times.values()) - min(times.values())) + 1e-6
    got = search_curves(model_sites, importance, by_kind, budget, fixed_ms=fixed, widths=widths)

    assert got.predicted_ms <= budget + 1e-9
    counts = [len(got.plan.kept[site.name]) for site in model_sites]
    assert got.predicted_ms == pytest.approx(times[tuple(counts)])
    # Times are rounded up to the grid: what fits with that to spare must be found.
    sure = budget - len(model_sites) * (budget - fixed) / GRID
    best = max(
        (
            best_prefix(importance, model_sites, chosen)
            for chosen, ms in times.items()
            if ms <= sure
        ),
        default=0.0,
    )
    assert worth(importance, got.plan.kept) >= best - 1e-6


@pytest.mark.parametrize("over", [1e-9, 1e-6, 4e-5])
def test_a_hair_over_the_budget_is_over_it(over):
    model_sites = [sublayer for sublayer in sites(blocks=2, neurons=3) if sublayer.kind == "mlp"]
    importance = {site.name: torch.ones(3) for site in model_sites}
    curves = {"mlp": ramp(0.1, 1, 0.2)}  # all six units take 1 ms
    roomy, tight = (
        search_curves(model_sites, importance, curves, budget)
        for budget in (1.0 + over, 1.0 - over)
    )
    assert roomy.plan.keep == 1
    assert tight.plan.keep < 1
    assert tight.predicted_ms <= 1.0 - over


def test_sublayers_are_dropped_where_their_base_time_buys_more_elsewhere():
    model_sites = sites(blocks=2, heads=2, neurons=2)
    importance = {
        "layers.0.attention": torch.tensor([9.0, 8.0]), "layers.0.mlp": torch.tensor([7.0, 7.0]),
        "layers.1.attention": torch.tensor([0.1, 0.1]), "layers.1.mlp": torch.tensor([0.2, 0.1]),
    }  # fmt: skip
    curves = {"attention": ramp(1.0, 1, 0.5), "mlp": ramp(1.0, 1, 0.5)}
    got = search_curves(model_sites, importance, curves, 3.0)
    assert {name for name, units in got.plan.kept.items() if units} == {
        "layers.0.attention", "layers.0.mlp",
    }  # fmt: skip
    assert got.predicted_ms == 3.0
    assert worth(importance, got.plan.kept) == pytest.approx(31.0)


def test_sublayers_that_may_not_be_empty_stay():
    model_sites = sites(empty=False)
    importance = random_importance(model_sites, 0)
    curves = {"attention": ramp(1.0, 1, 0.5), "mlp": ramp(1.0, 2, 0.5)}
    assert all(search_curves(model_sites, importance, curves, 4.0).plan.kept.values())
    with pytest.raises(RecipeError, match=r"the smallest possible is 4 ms"):
        search_curves(model_sites, importance, curves, 3.9)


def test_a_budget_below_what_is_never_pruned_names_the_smallest():
    model_sites = sites()
    importance = random_importance(model_sites, 0)
    curves = {"attention": ramp(1.0, 1, 0.5), "mlp": ramp(1.0, 2, 0.5)}
    with pytest.raises(RecipeError, match=r"2 ms cannot be met: the smallest possible is 2\.5"):
        search_curves(model_sites, importance, curves, 2.0, fixed_ms=2.5)
    got = search_curves(model_sites, importance, curves, 2.5, fixed_ms=2.5)
    assert not any(got.plan.kept.values())
    assert got.predicted_ms == 2.5


def test_a_budget_of_the_whole_keeps_everything():
    model_sites = sites()
    table = table_of(attention={1: 1.0, 3: 2.5}, mlp={1: 1.0, 4: 4.0})
    importance = random_importance(model_sites, 1)
    whole = search_curves(
        model_sites, importance, fitted(model_sites, table), 40.0 + 1e-6, fixed_ms=table.empty_ms
    )
    assert whole.plan.keep == 1
    assert whole.predicted_ms == pytest.approx(40.0)
