"""The whole of measuring on real ONNX artifacts: parity, perplexity and latency beside torch."""

import numpy as np
import pytest
from tiny import tiny, uneven

from numprune_export.measure.cost.decoder import cost, ideal_speedups
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair, measure_pairs
from numprune_export.measure.parity.decoder import check, compare
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.target import OnnxExporter

TOKENS = np.random.default_rng(6).integers(3, 97, (3, 20 + 32))


@pytest.fixture(scope="module", params=["gqa", "standard"])
def exported(request, tmp_path_factory):
    """Dense and pruned: the torch model and its ONNX artifact."""
    exporter, pairs = OnnxExporter(), {}
    settings = exporter.settings(graph=request.param)
    for variant, model in (("dense", tiny()), ("pruned", uneven())):
        folder = tmp_path_factory.mktemp(variant)
        artifact = exporter.export(FAMILIES["llama"].decoder(model), folder, settings)
        pairs[variant] = model, artifact
    return pairs


def opened(artifact):
    return OnnxExporter().open(artifact, threads=1, capacity=TOKENS.shape[1])


@pytest.mark.parametrize("variant", ["dense", "pruned"])
def test_onnx_agrees_with_torch_on_every_prompt_shape(exported, variant):
    model, artifact = exported[variant]
    with TorchRunner(model, threads=1) as reference, opened(artifact) as candidate:
        parity = compare(reference, candidate, TOKENS)
    check(parity, 1e-4, name="onnx")
    assert parity.kl_mean < 1e-9
    assert (parity.top1_agreement, parity.greedy_match) == (1, 1)


def test_the_pruned_export_is_not_taken_for_the_dense_one(exported):
    (dense, _), (_, pruned) = exported["dense"], exported["pruned"]
    with TorchRunner(dense, threads=1) as reference, opened(pruned) as other:
        assert compare(reference, other, TOKENS, steps=4).max_abs_error > 1


def test_perplexity_of_the_export_is_that_of_the_model(exported):
    model, artifact = exported["pruned"]
    with TorchRunner(model, threads=1) as reference, opened(artifact) as candidate:
        values = [perplexity(runner, TOKENS, batch=2).value for runner in (reference, candidate)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)


def test_latency_of_onnx_and_torch_side_by_side(exported):
    (dense, dense_artifact), (pruned, pruned_artifact) = exported["dense"], exported["pruned"]
    shape = {"batch": 1, "prefill_length": 16, "past_length": 16, "itemsize": 4}
    costs = [cost(FAMILIES["llama"].decoder(model), **shape) for model in (dense, pruned)]
    workload = DecoderWorkload(TOKENS[:1], 16, 16, decode_steps=4, ideal=ideal_speedups(*costs))
    with (
        opened(dense_artifact) as onnx_dense,
        opened(pruned_artifact) as onnx_pruned,
        TorchRunner(dense, threads=1) as torch_dense,
        TorchRunner(pruned, threads=1) as torch_pruned,
    ):
        rows = {
            "onnx": LatencyRow(Pair(onnx_dense, onnx_pruned), {"threads": 1}),
            "torch": LatencyRow(Pair(torch_dense, torch_pruned), {"threads": 1}),
        }
        metrics = measure_pairs(rows, workload, Protocol(warmup=1, samples=5)).metrics
    for target in ("onnx", "torch"):
        for phase in ("prefill", "decode"):
            name = f"latency.{target}.{phase}"
            speedup, ideal = metrics[f"{name}.speedup"].value, metrics[f"{name}.ideal"].value
            assert 0 < metrics[f"{name}.pruned.p50_ms"].value < 1000
            assert metrics[f"{name}.of_ideal"].value == pytest.approx(speedup / ideal)
