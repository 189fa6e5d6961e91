"""Encoder timing with runners that move a fake clock by a known amount, and once for real."""

import numpy as np
import pytest
from tiny_encoder import FAMILIES, tiny_encoder, uneven_encoder

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.measure.latency.encoder import BUCKETS, Bucket, EncoderWorkload
from numprune_export.measure.latency.interleave import Clocks, Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.measure.reference.encoder import TorchEncoderRunner

MS = 1_000_000
TEXT = np.arange(3, 3 + 2 * 10).reshape(2, 10)


class Clockwork:
    """Takes a fixed time per token, on its own clock."""

    def __init__(self, now, ms):
        self.now, self.ms, self.log = now, ms, []

    def forward(self, tokens, lengths=None, types=None):
        assert lengths is None
        assert types is None
        self.log.append(tokens.copy())
        self.now[0] += self.ms * tokens.size * MS
        return np.zeros((len(tokens), 2), np.float32)


def workload(*buckets, tokens=TEXT):
    return EncoderWorkload(
        tokens, buckets, {bucket.timing: 2.0 + bucket.batch for bucket in buckets}
    )


def latencies(pairs, work, now, samples=6, **conditions):
    under = {"dtype": "float32", "threads": 1, **conditions}
    rows = {name: LatencyRow(pair, under) for name, pair in pairs.items()}
    clocks = Clocks(lambda: now[0], lambda: 3 * now[0])
    return measure_pairs(rows, work, Protocol(warmup=1, samples=samples, clocks=clocks))


def timed(pairs, work, now, **conditions):
    return latencies(pairs, work, now, **conditions).metrics


def test_samples_of_every_bucket_are_told():
    now = [0]
    pair = Pair(Clockwork(now, 3), Clockwork(now, 2))
    kept = latencies({"onnx": pair}, workload(Bucket(1, 4), Bucket(2, 8)), now).samples
    assert {name: samples.wall_ms.tolist() for name, samples in kept.items()} == {
        "latency.onnx.forward.b1.l4.dense": [12] * 6,
        "latency.onnx.forward.b1.l4.pruned": [8] * 6,
        "latency.onnx.forward.b2.l8.dense": [48] * 6,
        "latency.onnx.forward.b2.l8.pruned": [32] * 6,
    }


def test_metrics_are_times_per_bucket_with_ideal_beside():
    now = [0]
    pair = Pair(Clockwork(now, 3), Clockwork(now, 2))
    metrics = timed({"onnx": pair}, workload(Bucket(1, 4), Bucket(2, 8)), now)
    value = {
        name.removeprefix("latency.onnx.forward."): metric.value for name, metric in metrics.items()
    }
    assert value["b1.l4.dense.p50_ms"] == value["b1.l4.dense.p99_ms"] == 12
    assert value["b2.l8.pruned.p90_ms"] == 32
    assert value["b2.l8.pruned.cpu_ms"] == 96
    assert value["b2.l8.pruned.tokens_per_s"] == 500
    assert value["b1.l4.speedup"] == value["b2.l8.speedup_low"] == 1.5
    assert (value["b1.l4.ideal"], value["b2.l8.ideal"]) == (3, 4)
    assert (value["b1.l4.of_ideal"], value["b2.l8.cpu_speedup"]) == (0.5, 1.5)
    assert len(metrics) == 2 * 16
    assert all(metric.samples == 6 for metric in metrics.values())


def test_every_number_says_under_what_it_holds():
    now = [0]
    pair = Pair(Clockwork(now, 3), Clockwork(now, 2))
    metrics = timed({"onnx": pair}, workload(Bucket(2, 8)), now)
    for metric in metrics.values():
        assert metric.conditions == {
            "batch": 2,
            "length": 8,
            "ideal_from": "MACs",
            "dtype": "float32",
            "threads": 1,
        }


def test_processor_time_is_no_measure_of_a_gpus_work():
    now = [0]
    pair = Pair(Clockwork(now, 3), Clockwork(now, 2))
    metrics = timed({"trt": pair}, workload(Bucket(1, 4)), now, device="cuda")
    assert "latency.trt.forward.b1.l4.cpu_speedup" not in metrics


def test_all_targets_share_the_rounds_and_every_bucket_is_its_own_shape():
    now = [0]
    runners = [Clockwork(now, ms) for ms in (1, 2, 3, 4)]
    targets = {"onnx": Pair(*runners[:2]), "torch": Pair(*runners[2:])}
    metrics = timed(targets, workload(Bucket(1, 4), Bucket(3, 12)), now)
    assert metrics["latency.torch.forward.b3.l12.speedup"].value == 0.75
    for runner in runners:
        assert [tokens.shape for tokens in runner.log] == [(1, 4)] * 7 + [(3, 12)] * 7
        np.testing.assert_array_equal(runner.log[0], TEXT[:1, :4])
        np.testing.assert_array_equal(runner.log[-1][2], [*TEXT[0], *TEXT[0, :2]])


def test_the_buckets_are_the_usual_ones():
    assert [bucket.name for bucket in BUCKETS] == [
        f"b{batch}.l{length}" for batch in (1, 8, 32) for length in (16, 64, 128)
    ]


def test_too_few_samples_and_no_text_are_refused():
    pair = Pair(Clockwork([0], 3), Clockwork([0], 2))
    with pytest.raises(RecipeError, match="`3` latency samples"):
        latencies({"onnx": pair}, workload(Bucket(1, 4)), [0], samples=3)
    with pytest.raises(InputError, match="benchmark text"):
        workload(Bucket(1, 4), tokens=np.zeros((0, 4), np.int64))


def test_real_models_in_the_same_rounds():
    family = FAMILIES["bert"]
    with (
        TorchEncoderRunner(tiny_encoder(), family, threads=1) as dense,
        TorchEncoderRunner(uneven_encoder(), family, threads=1) as pruned,
    ):
        row = LatencyRow(Pair(dense, pruned))
        metrics = measure_pairs({"torch": row}, workload(Bucket(2, 16)), Protocol(1, 6)).metrics
    assert all(0 < metric.value < 1e6 for metric in metrics.values())
    ratio = metrics["latency.torch.forward.b2.l16.speedup"]
    assert ratio.low <= ratio.value <= ratio.high
