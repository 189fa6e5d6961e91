"""ONNX Runtime on a real GPU: what it computes, where, and what it holds there."""

import numpy as np
import pytest
import torch
from runner_parity import greedy, greedy_pytorch, largest_error, rounding_error
from tiny import MODEL_TYPES, uneven

from numprune_export.core.errors import InputError
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx_cuda.target import OnnxCudaExporter, OnnxCudaSettings

pytestmark = pytest.mark.gpu

DTYPES = ("float32", "float16", "bfloat16")


@pytest.fixture
def export(tmp_path):
    for needed in ("onnx_ir", "onnxruntime"):
        pytest.importorskip(needed)
    here = OnnxCudaExporter().availability()
    if here.cannot_run:
        pytest.skip(here.cannot_run)

    def run(model, **settings):
        decoder = FAMILIES[model.config.model_type].decoder(model)
        return OnnxCudaExporter().export(decoder, tmp_path, OnnxCudaSettings(**settings))

    return run


def on_gpu(model):
    return model.cuda() if torch.cuda.is_available() else model


def opened(artifact, capacity=24):
    return OnnxCudaExporter().open(artifact, threads=1, capacity=capacity)


@pytest.mark.parametrize("head_dim", [8, 64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padded_batch_then_decode_is_as_near_as_pytorch(export, model_type, dtype, head_dim):
    model = uneven(model_type, head_dim=head_dim)
    artifact = export(model, dtype=dtype)
    model = on_gpu(model)
    allowed = 1e-3 if dtype == "float32" else 3 * rounding_error(model, dtype)
    with opened(artifact) as runner:
        assert largest_error(runner, model) <= allowed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("graph", ["gqa", "standard"])
def test_windows_and_both_graphs(export, graph, dtype):
    model = uneven("mistral", head_dim=16, sliding_window=4)
    artifact = export(model, dtype=dtype, graph=graph)
    model = on_gpu(model)
    with opened(artifact) as runner:
        assert largest_error(runner, model) <= 3 * rounding_error(model, dtype)


def test_greedy_tokens_are_pytorchs(export):
    model = uneven("llama", head_dim=16)
    artifact = export(model, dtype="float32")
    prompt = np.random.default_rng(3).integers(0, 97, (2, 7))
    with opened(artifact) as runner:
        tokens = greedy(runner, prompt, 12)
    np.testing.assert_array_equal(tokens, greedy_pytorch(on_gpu(model), prompt, 12))


@pytest.mark.parametrize("dtype", DTYPES)
def test_prompts_and_batches_follow_each_other_without_a_trace(export, dtype):
    artifact = export(uneven("llama", head_dim=16), dtype=dtype)
    random = np.random.default_rng(5)
    prompts = [random.integers(0, 97, shape) for shape in ((2, 9), (2, 3), (4, 20), (1, 5), (2, 9))]

    def run(runner, prompt):
        return [
            runner.prefill(prompt),
            *(runner.decode(prompt[:, position]) for position in (0, 1, 2)),
        ]

    with opened(artifact) as runner:
        together = [run(runner, batch) for batch in prompts]
    for prompt, logits in zip(prompts, together, strict=True):
        with opened(artifact) as fresh:
            np.testing.assert_allclose(logits, run(fresh, prompt), rtol=0, atol=1e-6)


def test_memory_is_split_and_the_device_is_told(export):
    artifact = export(uneven("llama", head_dim=16))
    with opened(artifact) as runner:
        runner.prefill(np.zeros((2, 5), np.int64))
        held = runner.device_memory()
    assert held["kv_cache"] == 2 * (3 + 1 + 2) * 2 * 24 * 16 * 2
    assert held["weights"] == (artifact.folder / "model.onnx.data").stat().st_size
    options = {"threads": 1, "batch": 2, "prompt_tokens": 8, "decode_steps": 4}
    metrics = measure_memory("onnx-cuda", {"pruned": artifact.folder}, **options)
    device = metrics["memory.onnx-cuda.pruned.device_bytes"]
    assert device.value > 0
    assert device.conditions["device"] == "cuda"


def test_more_positions_than_the_model_has_are_refused(export):
    artifact = export(uneven("llama", head_dim=16))
    with pytest.raises(InputError, match="capacity `129`"):
        opened(artifact, capacity=129)
