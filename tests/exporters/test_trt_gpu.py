"""Engines on a real GPU: what they compute, how they decode, what they hold there, what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from runner_parity import greedy, greedy_pytorch, largest_error, rounding_error
from tiny import MODEL_TYPES, uneven

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import sha256_of
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.measure.memory.resident import used_bytes
from numprune_export.models.families import FAMILIES
from numprune_exporters.trt.run.open import open_engine
from numprune_exporters.trt.target import TrtExporter, TrtRtxExporter

pytestmark = pytest.mark.gpu

DTYPES = ("float32", "float16", "bfloat16")
HEAD_DIM = 16
PROFILES = {
    "prefill": {"batch": {"max": 4}, "length": {"max": 32}},
    "decode": {"capacity": {"opt": 64, "max": 64}},
}


@pytest.fixture(params=[TrtExporter, TrtRtxExporter], ids=["trt", "trt-rtx"])
def exporter(request):
    for needed in ("onnx_ir", "cuda.bindings"):
        pytest.importorskip(needed)
    trt_exporter = request.param()
    here = trt_exporter.availability()
    if not here.ready or here.cannot_run:
        pytest.skip(here.cannot_run or here.detail)
    return trt_exporter


@pytest.fixture
def export(exporter, tmp_path):
    def run(model, dtype="float32", folder="artifact", **settings):
        (tmp_path / folder).mkdir()
        chosen = exporter.settings.model_validate({"dtype": dtype, **PROFILES, **settings})
        decoder = FAMILIES[model.config.model_type].decoder(model)
        return exporter.export(decoder, tmp_path / folder, chosen)

    return run


def on_gpu(model):
    return model.cuda() if torch.cuda.is_available() else model


def opened(artifact, capacity=24, **options):
    return open_engine(artifact, threads=1, capacity=capacity, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padded_batch_then_decode_is_as_near_as_pytorch(export, model_type, dtype):
    model = uneven(model_type, head_dim=HEAD_DIM)
    artifact = export(model, dtype)
    model = on_gpu(model)
    allowed = 1e-3 if dtype == "float32" else 3 * rounding_error(model, dtype)
    with opened(artifact) as runner:
        assert largest_error(runner, model) <= allowed


@pytest.mark.parametrize("graph", ["fused", "decomposed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_graphs_compute_the_model(export, graph, dtype):
    model = uneven("qwen3", head_dim=HEAD_DIM, sliding_window=4, use_sliding_window=True)
    artifact = export(model, dtype, graph=graph)
    model = on_gpu(model)
    allowed = 1e-3 if dtype == "float32" else 3 * rounding_error(model, dtype)
    with opened(artifact) as runner:
        assert largest_error(runner, model) <= allowed


def test_greedy_tokens_are_pytorchs(export):
    model = uneven("llama", head_dim=HEAD_DIM)
    artifact = export(model)
    prompt = np.random.default_rng(3).integers(0, 97, (2, 7))
    with opened(artifact) as runner:
        tokens = greedy(runner, prompt, 12)
    np.testing.assert_array_equal(tokens, greedy_pytorch(on_gpu(model), prompt, 12))


@pytest.mark.parametrize("dtype", DTYPES)
def test_recorded_steps_give_what_plain_ones_give(export, dtype):
    artifact = export(uneven("llama", head_dim=HEAD_DIM), dtype)
    prompt = np.random.default_rng(3).integers(0, 97, (2, 7))
    steps = np.random.default_rng(4).integers(0, 97, (10, 2))
    logits, paths = [], []
    for record in (True, False):
        with opened(artifact, record=record) as runner:
            first = runner.prefill(prompt)
            logits.append(np.stack([first, *(runner.decode(tokens) for tokens in steps)]))
            paths.append(runner.decode_path)
    np.testing.assert_array_equal(*logits)
    assert paths[0] == "cuda graph"
    assert paths[1].startswith("enqueue")


def test_prompts_and_batches_follow_each_other_without_a_trace(export):
    artifact = export(uneven("llama", head_dim=HEAD_DIM))
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
            np.testing.assert_array_equal(logits, run(fresh, prompt))


def test_all_positions_after_decoding_leave_the_recording_valid(export):
    artifact = export(uneven("llama", head_dim=HEAD_DIM))
    prompt = np.random.default_rng(6).integers(0, 97, (2, 9))
    with opened(artifact) as runner:
        runner.prefill(prompt)
        before = [runner.decode(prompt[:, position]) for position in range(4)]
        runner.prefill(np.tile(prompt, (1, 2)), all_positions=True)  # buffers grow
        runner.prefill(prompt)
        np.testing.assert_array_equal(
            [runner.decode(prompt[:, position]) for position in range(4)], before
        )


def test_memory_is_accounted_for_and_given_back(export):
    model = uneven("llama", head_dim=HEAD_DIM)
    artifact = export(model, "float16")
    with opened(artifact):
        pass  # the library's own memory, which stays
    before = used_bytes()
    with opened(artifact, capacity=24) as runner:
        runner.prefill(np.zeros((2, 5), np.int64))
        runner.decode(np.zeros(2, np.int64))
        held = runner.device_memory()
    heads = 2 * (3 + 1 + 2)
    assert held["kv_cache"] == heads * 2 * 24 * HEAD_DIM * 2
    assert held["weights"] > 0
    assert held["activations"] > 0
    assert used_bytes() <= before + (8 << 20)


def test_the_memory_of_a_fresh_process_is_split(export, exporter):
    artifact = export(uneven("llama", head_dim=HEAD_DIM), "float16")
    options = {"threads": 1, "batch": 2, "prompt_tokens": 8, "decode_steps": 4}
    metrics = measure_memory(exporter.name, {"pruned": artifact.folder}, **options)
    name = f"memory.{exporter.name}.pruned"
    parts = [
        metrics[f"{name}.{part}_bytes"].value for part in ("weights", "activations", "kv_cache")
    ]
    assert min(parts) > 0
    assert metrics[f"{name}.device_bytes"].conditions["device"] == "cuda"


def test_what_the_engine_was_not_built_for_is_refused(export):
    artifact = export(uneven("llama", head_dim=HEAD_DIM))
    with pytest.raises(InputError, match="capacity `65`"):
        opened(artifact, capacity=65)
    with opened(artifact, capacity=64) as runner:
        with pytest.raises(InputError, match="batch `5`"):
            runner.prefill(np.zeros((5, 3), np.int64))
        with pytest.raises(InputError, match="prompt length `33`"):
            runner.prefill(np.zeros((1, 33), np.int64))
        runner.prefill(np.zeros((1, 3), np.int64))  # and goes on
    with pytest.raises(InputError, match="closed"):
        runner.prefill(np.zeros((1, 3), np.int64))


def test_stripped_engine_gets_its_weights_from_the_graph(export):
    model = uneven("llama", head_dim=HEAD_DIM)
    full, stripped = export(model), export(model, folder="stripped", stripped=True)
    sizes = [(artifact.folder / artifact.entry).stat().st_size for artifact in (full, stripped)]
    assert sizes[1] < sizes[0]
    with opened(stripped) as runner:
        assert largest_error(runner, on_gpu(model)) <= 1e-3


def test_cut_short_engine_is_refused_by_tensorrt_itself(export):
    artifact = export(uneven("llama", head_dim=HEAD_DIM))
    plan = artifact.folder / artifact.entry
    plan.write_bytes(plan.read_bytes()[:-1000])
    files = {name: sha256_of(artifact.folder / name) for name in artifact.files}
    with pytest.raises(InputError, match="cannot read"):
        opened(replace(artifact, files=files))
