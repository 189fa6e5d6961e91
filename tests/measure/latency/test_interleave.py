"""The timing protocol, with clocks that only count."""

from collections import Counter
from itertools import count

import numpy as np
import pytest

from numprune_export.core.errors import RecipeError
from numprune_export.measure.latency.interleave import (
    MINIMUM_SAMPLES,
    Clocks,
    Contender,
    Protocol,
    in_sessions,
)


def logged(log: list[str], names: str = "ab") -> dict[str, Contender]:
    return {
        name: Contender(
            lambda name=name: log.append(f"step {name}"),
            prepare=lambda name=name: log.append(f"prepare {name}"),
        )
        for name in names
    }


def steps(does, names: str) -> dict[str, Contender]:
    return {name: Contender(lambda name=name: does(name)) for name in names}


def timed(contenders, *, warmup, samples, **more):
    return in_sessions({"x": contenders}, Protocol(warmup, samples, **more))["x"]


def test_the_wall_clock_is_read_right_around_the_step_and_never_around_preparation():
    log = []
    clocks = Clocks(lambda: log.append("clock") or 0, lambda: log.append("cpu") or 0)
    timed(logged(log, "a"), warmup=0, samples=5, clocks=clocks)
    assert log == ["prepare a", "cpu", "clock", "step a", "clock", "cpu"] * 5


def test_every_contender_runs_once_per_round_and_stands_everywhere_equally_often():
    log = []
    timed(steps(log.append, "abcd"), warmup=0, samples=8)
    rounds = [log[start : start + 4] for start in range(0, 32, 4)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    for place in range(4):
        assert set(Counter(order[place] for order in rounds).values()) == {2}


def test_two_contenders_alternate_who_is_first():
    log = []
    timed(steps(log.append, "ab"), warmup=0, samples=6)
    firsts = log[::2]
    assert Counter(firsts) == {"a": 3, "b": 3}
    assert firsts[:2] == ["a", "b"]


def test_warmup_rounds_run_and_are_not_kept():
    log, ticks = [], count(step=1_000_000)  # a millisecond passes between two readings
    timings = timed(logged(log), warmup=3, samples=5, clocks=Clocks(lambda: next(ticks), lambda: 0))
    assert log.count("step a") == log.count("step b") == 8
    for samples in timings.values():
        np.testing.assert_array_equal(samples.wall_ms, np.ones(5))
        np.testing.assert_array_equal(samples.cpu_ms, np.zeros(5))


def test_samples_stay_in_round_order_and_with_their_contender():
    now = [0]
    cost = {"a": iter(range(1, 9)), "b": iter(range(101, 109))}

    def spend(name):
        now[0] += next(cost[name]) * 1_000_000

    clocks = Clocks(lambda: now[0], lambda: now[0] * 2)
    timings = timed(steps(spend, "ab"), warmup=2, samples=6, clocks=clocks)
    np.testing.assert_array_equal(timings["a"].wall_ms, np.arange(3, 9))
    np.testing.assert_array_equal(timings["b"].wall_ms, np.arange(103, 109))
    np.testing.assert_array_equal(timings["b"].cpu_ms, np.arange(206, 218, 2))


def test_progress_weighs_the_rounds_of_a_timing_by_its_work():
    done = []
    contenders = {"a": Contender(list)}
    in_sessions(
        {"small": contenders, "large": contenders},
        Protocol(1, 5, progress=done.append),
        work={"large": 64},
    )
    assert done == [1] * 6 + [64] * 6


def test_progress_counts_all_rounds():
    done = []
    timed(logged([]), warmup=2, samples=5, progress=done.append)
    assert done == [1] * 7


def test_too_few_samples_are_refused():
    with pytest.raises(RecipeError, match="`4` latency samples"):
        timed(logged([]), warmup=1, samples=MINIMUM_SAMPLES - 1)
