"""Decoder timing with runners that move a fake clock by a known amount, and once for real."""

import numpy as np
import pytest
from tiny import tiny, uneven

from numprune_export.core.errors import InputError
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.interleave import Clocks, Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.measure.reference.decoder import TorchRunner

MS = 1_000_000


class Clockwork:
    """Takes a fixed time per prefilled token and per decode step, on its own clock."""

    def __init__(self, now, prefill_ms, decode_ms):
        self.now, self.prefill_ms, self.decode_ms = now, prefill_ms, decode_ms
        self.past, self.log = 0, []

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        assert lengths is None
        assert not all_positions
        self.past = tokens.shape[1]
        self.log.append(("prefill", tokens.shape))
        self.now[0] += self.prefill_ms * tokens.shape[1] * MS
        return np.zeros((len(tokens), 7), np.float32)

    def decode(self, tokens):
        self.log.append(("decode", self.past))
        self.past += 1
        self.now[0] += self.decode_ms * MS
        return np.zeros((len(tokens), 7), np.float32)


def workload(batch=2, **overrides):
    settings = {
        "tokens": np.ones((batch, 12), np.int64),
        "prefill_length": 10,
        "past_length": 12,
        "decode_steps": 4,
        "ideal": {"prefill": 2.5, "decode": 2.0},
    }
    return DecoderWorkload(**(settings | overrides))


def latencies(pairs, now, rebuilds=(), **conditions):
    under = {"dtype": "float32", "threads": 1, **conditions}
    rows = {name: LatencyRow(pair, under, rebuilds=rebuilds) for name, pair in pairs.items()}
    clocks = Clocks(lambda: now[0], lambda: 3 * now[0])
    return measure_pairs(rows, workload(), Protocol(warmup=1, samples=6, clocks=clocks))


def timed(pairs, now, rebuilds=(), **conditions):
    return latencies(pairs, now, rebuilds, **conditions).metrics


def test_samples_are_told_per_token_in_round_order():
    now = [0]
    dense = Clockwork(now, 4, 30)
    slower = iter(range(1000))
    dense.decode = lambda tokens: (
        now.__setitem__(0, now[0] + next(slower) * MS) or Clockwork.decode(dense, tokens)
    )
    pair = Pair(dense, Clockwork(now, 2, 20))
    kept = latencies({"onnx": pair}, now, [Clockwork(now, 1, 9)]).samples
    assert list(kept) == [
        f"latency.onnx.{phase}.{variant}"
        for phase in ("prefill", "decode")
        for variant in ("dense", "pruned")
    ]
    # Four steps make a sample, the first one is the warm-up: 4 to 7, 8 to 11, ... on top of 30.
    later = [30 + 4 * number + 1.5 for number in range(1, 7)]
    assert kept["latency.onnx.decode.dense"].wall_ms.tolist() == later
    assert kept["latency.onnx.prefill.pruned"].wall_ms.tolist() == [20] * 6


def test_metrics_are_times_per_prompt_and_per_token_with_ideal_beside():
    now = [0]
    metrics = timed({"onnx": Pair(Clockwork(now, 4, 30), Clockwork(now, 2, 20))}, now)
    value = {name.removeprefix("latency.onnx."): metric.value for name, metric in metrics.items()}
    assert value["prefill.dense.p50_ms"] == 40
    assert value["prefill.pruned.p99_ms"] == 20
    assert value["prefill.dense.cpu_ms"] == 120
    assert value["prefill.pruned.tokens_per_s"] == 2 * 10 * 1000 / 20
    assert value["prefill.speedup"] == value["prefill.speedup_low"] == 2
    assert (value["prefill.ideal"], value["prefill.of_ideal"]) == (2.5, 0.8)
    assert value["decode.dense.p50_ms"] == value["decode.dense.p90_ms"] == 30
    assert value["decode.pruned.cpu_ms"] == 60
    assert value["decode.pruned.tokens_per_s"] == 2 * 1000 / 20
    assert value["decode.speedup"] == value["decode.speedup_high"] == 1.5
    assert value["decode.of_ideal"] == 0.75
    assert value["decode.cpu_speedup"] == 1.5
    assert all(metric.samples == 6 for metric in metrics.values())
    assert (metrics["latency.onnx.decode.speedup"].low, len(metrics)) == (1.5, 32)


def test_further_builds_are_timed_in_the_same_rounds_and_their_spread_is_told():
    now = [0]
    pair = Pair(Clockwork(now, 4, 30), Clockwork(now, 2, 20))
    builds = [Clockwork(now, 3, 25), Clockwork(now, 2, 22)]
    metrics = timed({"trt": pair}, now, rebuilds=builds)
    spreads = {
        phase: metrics[f"latency.trt.{phase}.pruned.rebuild_spread"]
        for phase in ("prefill", "decode")
    }
    assert {phase: spread.value for phase, spread in spreads.items()} == {
        "prefill": 0.5,
        "decode": 0.25,
    }
    assert all(
        (spread.samples, spread.conditions["builds"]) == (6, 3) for spread in spreads.values()
    )
    assert len(builds[0].log) == len(pair.pruned.log)
    assert metrics["latency.trt.decode.speedup"].value == 1.5


def test_processor_time_is_no_measure_of_a_gpus_work():
    now = [0]
    pair = Pair(Clockwork(now, 4, 30), Clockwork(now, 2, 20))
    metrics = timed({"trt": pair}, now, device="cuda")
    assert "latency.trt.decode.cpu_speedup" not in metrics
    assert "latency.trt.decode.dense.cpu_ms" in metrics


def test_every_number_says_under_what_it_holds():
    now = [0]
    metrics = timed({"onnx": Pair(Clockwork(now, 4, 30), Clockwork(now, 2, 20))}, now)
    assert metrics["latency.onnx.prefill.dense.p50_ms"].conditions == {
        "batch": 2,
        "prompt_tokens": 10,
        "dtype": "float32",
        "threads": 1,
    }
    assert metrics["latency.onnx.decode.speedup"].conditions == {
        "batch": 2,
        "past_tokens": 12,
        "tokens_per_sample": 4,
        "dtype": "float32",
        "threads": 1,
    }


def test_cpu_time_has_its_own_ratio():
    now, busy = [0], [0]

    class Waits(Clockwork):
        """Kept waiting: wall time doubles, CPU time does not."""

        def decode(self, tokens):
            busy[0] += self.decode_ms * MS
            return super().decode(tokens)

    dense, pruned = Waits(now, 4, 30), Waits(now, 2, 20)
    pruned.decode = lambda tokens: (
        now.__setitem__(0, now[0] + 20 * MS) or Waits.decode(pruned, tokens)
    )
    clocks = Clocks(lambda: now[0], lambda: busy[0])
    row = LatencyRow(Pair(dense, pruned))
    metrics = measure_pairs({"onnx": row}, workload(), Protocol(1, 6, clocks=clocks)).metrics
    assert metrics["latency.onnx.decode.speedup"].value == 0.75
    assert metrics["latency.onnx.decode.cpu_speedup"].value == 1.5
    # prefill took no measurable processor time: there is no ratio to tell
    assert "latency.onnx.prefill.cpu_speedup" not in metrics


def test_each_decode_sample_starts_from_a_fresh_untimed_past():
    now = [0]
    dense = Clockwork(now, 4, 30)
    timed({"onnx": Pair(dense, Clockwork(now, 2, 20))}, now)
    rounds = [("prefill", (2, 10))] * 7
    rounds += [("prefill", (2, 12)), *(("decode", past) for past in range(12, 16))] * 7
    assert dense.log == rounds


def test_all_targets_share_the_rounds():
    now = [0]
    runners = [Clockwork(now, ms, 10 * ms) for ms in range(1, 5)]
    order = []
    for number, runner in enumerate(runners):
        runner.decode = lambda tokens, number=number, runner=runner: (
            order.append(number) or Clockwork.decode(runner, tokens)
        )
    metrics = timed({"onnx": Pair(*runners[:2]), "torch": Pair(*runners[2:])}, now)
    assert metrics["latency.torch.decode.dense.p50_ms"].value == 30
    assert metrics["latency.torch.decode.pruned.p50_ms"].value == 40
    assert metrics["latency.torch.decode.speedup"].value == 0.75
    samples = order[::4]  # four steps make a sample
    assert order == [number for number in samples for _ in range(4)]
    assert all(sorted(samples[at : at + 4]) == [0, 1, 2, 3] for at in range(0, 28, 4))


def test_a_workload_says_what_it_needs():
    assert workload().capacity == 16
    assert workload(prefill_length=12, past_length=2).capacity == 12
    with pytest.raises(InputError, match="shorter than 13"):
        workload(past_length=13)


def test_without_a_known_ideal_none_is_reported():
    now = [0]
    row = LatencyRow(Pair(Clockwork(now, 4, 30), Clockwork(now, 2, 20)))
    clocks = Clocks(lambda: now[0], lambda: now[0])
    protocol = Protocol(1, 6, clocks=clocks)
    known = measure_pairs({"onnx": row}, workload(), protocol).metrics
    unknown = measure_pairs({"onnx": row}, workload(ideal=None), protocol).metrics
    assert known.keys() - unknown.keys() == {
        f"latency.onnx.{phase}.{name}"
        for phase in ("prefill", "decode")
        for name in ("ideal", "of_ideal")
    }


def test_real_models_in_the_same_rounds():
    with (
        TorchRunner(tiny(), threads=1) as dense,
        TorchRunner(uneven(), threads=1) as pruned,
    ):
        row = LatencyRow(Pair(dense, pruned))
        metrics = measure_pairs({"torch": row}, workload(batch=1), Protocol(1, 6)).metrics
    for name, metric in metrics.items():
        assert 0 < metric.value < 1e6, name
    for phase in ("prefill", "decode"):
        ratio = metrics[f"latency.torch.{phase}.speedup"]
        assert ratio.low <= ratio.value <= ratio.high
