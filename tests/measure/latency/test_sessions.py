"""Timing over sessions: models opened anew, and intervals that know of it."""

import math
from contextlib import contextmanager

import numpy as np
import pytest

from numprune_export.core.errors import RecipeError
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.interleave import Clocks, Contender, Protocol, in_sessions
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.measure.latency.sessions import ReopenedDecoder, ReopenedEncoder, reopener
from numprune_export.measure.latency.statistics import ratio_of_medians, ratio_over_sessions

MS = 1_000_000


@pytest.mark.parametrize(
    ("samples", "sessions", "each"), [(20, 6, 4), (24, 6, 4), (5, 6, 1), (8, 1, 8)]
)
def test_rounds_are_shared_and_never_too_few(samples, sessions, each):
    protocol = Protocol(2, samples, sessions)
    assert protocol.timed_rounds == each
    assert each * sessions >= samples
    assert protocol.rounds == sessions * (2 + each)


def test_every_session_times_every_field_and_opens_anew_in_between():
    log = []

    def contender(name):
        return Contender(lambda: log.append(name))

    fields = {phase: {name: contender(phase + name) for name in "ab"} for phase in "xy"}
    timings = in_sessions(fields, Protocol(1, 6, 3), [lambda: log.append("open")])
    sessions = "-".join(log).split("open")
    assert len(sessions) == 3
    for session in sessions:
        steps = [step for step in session.split("-") if step]
        assert sorted(steps) == sorted(["xa", "xb", "ya", "yb"] * 3)
        assert [step[0] for step in steps] == ["x"] * 6 + ["y"] * 6
    assert all(
        len(samples.wall_ms) == 6 for phase in timings.values() for samples in phase.values()
    )


def test_too_few_samples_are_refused():
    with pytest.raises(RecipeError):
        in_sessions({"x": {"a": Contender(list)}}, Protocol(warmup=0, samples=4, sessions=6))


def drifting(rng, sessions, rounds, speedup, between, within):
    """Paired times whose ratio has an offset of its own in each session."""
    pace = rng.lognormal(0, 0.5, (sessions, rounds))
    offset = rng.normal(0, between, (sessions, 1))
    noise = rng.normal(0, within, (sessions, rounds))
    return (pace * speedup * np.exp(offset + noise)).ravel(), pace.ravel()


def test_the_interval_over_sessions_holds_the_truth_and_that_over_rounds_does_not():
    rng, held = np.random.default_rng(0), {"sessions": 0, "rounds": 0}
    for trial in range(200):
        times = drifting(rng, 6, 8, 1.3, between=0.05, within=0.01)
        over = ratio_over_sessions(*times, sessions=6)
        held["sessions"] += over.low <= 1.3 <= over.high
        once = drifting(rng, 1, 48, 1.3, between=0.05, within=0.01)
        rounds = ratio_of_medians(*once, seed=trial, resamples=200)
        held["rounds"] += rounds.low <= 1.3 <= rounds.high
    assert 182 <= held["sessions"] <= 198  # of 200 at 95 %: mean 190, deviation 3.1
    assert held["rounds"] < 182


def test_the_value_is_the_mean_of_sessions_and_one_outlying_round_is_nothing():
    dense = np.array([2.0, 2.0, 50.0, 2.2, 2.2, 2.2, 1.8, 1.8, 1.8])
    ratio = ratio_over_sessions(dense, np.ones(9), sessions=3)
    middles = np.log([2.0, 2.2, 1.8])
    assert ratio.value == pytest.approx(math.exp(middles.mean()))
    half = 4.302653 * middles.std(ddof=1) / math.sqrt(3)  # Student, 2 degrees of freedom
    assert ratio.low == pytest.approx(math.exp(middles.mean() - half), rel=1e-4)
    assert ratio.high == pytest.approx(math.exp(middles.mean() + half), rel=1e-4)


class Opened:
    """A runner that says which opening of which model answers."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        return self.name, "prefill", lengths, all_positions

    def decode(self, tokens):
        return self.name, "decode"

    def forward(self, tokens, lengths=None, types=None):
        return self.name, lengths, types


def opener(name, log):
    @contextmanager
    def opened():
        log.append(f"+{name}")
        yield Opened(f"{name}{log.count(f'+{name}')}", log)
        log.append(f"-{name}")

    return opened


def test_reopening_closes_all_first_and_turns_the_order():
    log = []
    with ReopenedDecoder(opener("a", log)) as first, ReopenedDecoder(opener("b", log)) as second:
        again = reopener([first, second])
        assert first.decode([1]) == ("a1", "decode")
        again()
        again()
        assert second.prefill([1], [1], all_positions=True) == ("b3", "prefill", [1], True)
    assert log == ["+a", "+b", "-a", "-b", "+b", "+a", "-b", "-a", "+a", "+b", "-b", "-a"]


def test_an_encoder_is_reopened_too():
    log = []
    with ReopenedEncoder(opener("a", log)) as runner:
        reopener([runner])()
        assert runner.forward([1], [2], [3]) == ("a2", [2], [3])
    assert log == ["+a", "-a", "+a", "-a"]


class Clockwork:
    """Takes as many milliseconds as it was told when it was opened, on its own clock."""

    def __init__(self, now, ms):
        self.now, self.ms = now, ms

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        self.now[0] += self.ms * MS
        return np.zeros((1, 2), np.float32)

    def decode(self, tokens):
        self.now[0] += self.ms * MS
        return np.zeros((1, 2), np.float32)


def test_what_is_reopened_has_an_interval_over_sessions_and_says_so():
    now, paces = [0], iter([3.0, 3.3, 2.7])

    @contextmanager
    def dense():
        yield Clockwork(now, next(paces))

    @contextmanager
    def pruned():
        yield Clockwork(now, 1.0)

    work = DecoderWorkload(np.ones((1, 4), np.int64), 4, 4, 1, {"prefill": 3.0, "decode": 3.0})
    done, clocks = [], Clocks(lambda: int(now[0]), lambda: int(now[0]))
    protocol = Protocol(1, 9, sessions=3, clocks=clocks, progress=done.append)
    with ReopenedDecoder(dense) as first, ReopenedDecoder(pruned) as second:
        rows = {
            "onnx": LatencyRow(Pair(first, second), reopen=reopener([first, second])),
            "torch": LatencyRow(Pair(Clockwork(now, 2.0), Clockwork(now, 1.0))),
        }
        metrics = measure_pairs(rows, work, protocol).metrics
    assert sum(done) == 2 * protocol.rounds == 2 * 3 * (1 + 3)
    speedup = metrics["latency.onnx.decode.speedup"]
    assert speedup.value == pytest.approx((3.0 * 3.3 * 2.7) ** (1 / 3))
    assert speedup.low < 2.4 < 3.7 < speedup.high
    assert speedup.conditions["sessions"] == 3
    assert speedup.samples == 9
    assert metrics["latency.torch.decode.speedup"].low == 2.0
    assert "sessions" not in metrics["latency.torch.decode.speedup"].conditions
