"""Models beside a first one: who is faster, by how much, and under what."""

import time
from contextlib import nullcontext

import numpy as np
import pytest

from numprune_export.measure.latency import side_by_side
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.sessions import ReopenedDecoder

WORK = DecoderWorkload(np.zeros((1, 8), np.int64), 8, 4, 2)


class Decoder:
    """Takes as long as it is told, per call."""

    def __init__(self, seconds):
        self.seconds = seconds

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        time.sleep(self.seconds)

    def decode(self, tokens):
        time.sleep(self.seconds)

    forward = prefill


def measured(runners, workload=WORK):
    conditions = {name: {"device": name} for name in runners}
    return side_by_side.measure(runners, conditions, workload, Protocol(1, 6, sessions=3))


def test_three_times_as_slow_is_a_third_as_fast_as_the_first():
    opened = []

    def opener():
        opened.append(1)
        return nullcontext(Decoder(0.004))

    with ReopenedDecoder(opener) as first:
        metrics = measured({"A": first, "B": Decoder(0.012), "C": Decoder(0.004)})
    assert len(opened) == 3
    for phase in ("prefill", "decode"):
        assert f"latency.A.{phase}.speedup" not in metrics
        slow = metrics[f"latency.B.{phase}.speedup"]
        assert slow.low <= slow.value <= slow.high
        assert slow.value == pytest.approx(1 / 3, rel=0.5)
        assert slow.samples == 6
        assert metrics[f"latency.C.{phase}.speedup"].value == pytest.approx(1, rel=0.5)
    decode = metrics["latency.A.decode.p50_ms"]
    assert decode.value == pytest.approx(4, rel=0.6)  # of one token, not of the two of a sample
    assert decode.conditions["tokens_per_sample"] == 2
    assert decode.conditions["device"] == "A"
    assert metrics["latency.A.prefill.tokens_per_s"].value == pytest.approx(2000, rel=0.6)


def test_only_what_is_reopened_has_sessions():
    with ReopenedDecoder(lambda: nullcontext(Decoder(0))) as second:
        metrics = measured({"A": Decoder(0), "B": second, "C": Decoder(0)})
    told = {key: metrics[f"latency.{key}.decode.p50_ms"].conditions["sessions"] for key in "ABC"}
    assert told == {"A": 1, "B": 3, "C": 1}


def test_encoders_are_timed_at_every_shape():
    shapes = EncoderWorkload(np.zeros((4, 4), np.int64), (Bucket(1, 4), Bucket(8, 16)))
    metrics = measured({"A": Decoder(0.001), "B": Decoder(0.001)}, shapes)
    assert metrics["latency.B.forward.b8.l16.speedup"].conditions["batch"] == 8
    rate = metrics["latency.A.forward.b8.l16.tokens_per_s"].value
    small = metrics["latency.A.forward.b1.l4.tokens_per_s"].value
    assert rate > 5 * small
