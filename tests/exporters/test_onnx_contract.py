"""Every family, both graphs, uneven widths: the exported model is the PyTorch model."""

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, single_query_heads, uneven
from transformers import DynamicCache

from numprune_export.export.artifact import Artifact
from numprune_export.models.kv_cache import cache_argument
from numprune_exporters.onnx.target import OnnxExporter

GRAPHS = ("gqa", "standard")


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padded_batch_then_decode_matches_pytorch(export, agrees, model_type, tied, graph):
    model = uneven(model_type, tie_word_embeddings=tied)
    agrees(export(model, graph), model)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_single_sequence_matches_pytorch(export, agrees, model_type, graph):
    model = uneven(model_type)
    agrees(export(model, graph), model, lengths=np.array([7]))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("head_dim", [8, 16])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_kv_heads_with_different_numbers_of_query_heads_match_pytorch(
    export, agrees, model_type, head_dim, graph
):
    model = single_query_heads(model_type, head_dim=head_dim)
    agrees(export(model, graph), model)


@pytest.mark.parametrize("graph", GRAPHS)
def test_such_layers_with_biases_match_pytorch(export, agrees, graph):
    model = single_query_heads("llama", attention_bias=True, mlp_bias=True)
    agrees(export(model, graph), model, steps=6)


@pytest.mark.parametrize("graph", GRAPHS)
def test_greedy_tokens_match_a_dynamic_cache(export, graph):
    model = uneven("llama")
    prompt = np.random.default_rng(1).integers(0, 97, (3, 6))
    with OnnxExporter().open(export(model, graph), threads=1, capacity=40) as runner:
        tokens = [runner.prefill(prompt).argmax(-1)]
        for _ in range(31):
            tokens.append(runner.decode(tokens[-1]).argmax(-1))
    np.testing.assert_array_equal(np.stack(tokens, 1), _greedy(model, prompt, 32))


def _greedy(model, prompt, steps):
    cache, given, chosen = DynamicCache(config=model.config), torch.from_numpy(prompt), []
    with torch.no_grad():
        for _ in range(steps):
            output = model(given, **{cache_argument(model): cache})
            given = output.logits[:, -1:].argmax(-1)
            chosen.append(given)
    return torch.cat(chosen, 1).numpy()


@pytest.mark.parametrize("graph", GRAPHS)
def test_new_prefill_forgets_the_old_sequences_and_their_batch(export, graph):
    model = uneven("llama")
    random = np.random.default_rng(2)
    long, short = random.integers(0, 97, (2, 20)), random.integers(0, 97, (2, 3))
    wide = random.integers(0, 97, (4, 5))
    artifact = export(model, graph)
    with OnnxExporter().open(artifact, threads=1, capacity=24) as fresh:
        expected = fresh.prefill(short), fresh.decode(short[:, 0])
    with OnnxExporter().open(artifact, threads=1, capacity=24) as used:
        used.prefill(long)
        used.decode(long[:, 0])
        used.prefill(wide)
        got = used.prefill(short), used.decode(short[:, 0])
    for logits, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(logits, other)


@pytest.mark.parametrize("graph", GRAPHS)
def test_logits_of_earlier_calls_are_not_overwritten(export, graph):
    with OnnxExporter().open(export(uneven(), graph), threads=1, capacity=8) as runner:
        runner.prefill(np.array([[1, 2]]))
        first = runner.decode(np.array([3]))
        kept = first.copy()
        runner.decode(np.array([4]))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("graph", GRAPHS)
def test_bfloat16_weights_are_exported_exactly(export, agrees, graph):
    model = uneven("llama").bfloat16()
    artifact = export(model, graph)
    agrees(artifact, model.float(), steps=4)


def test_artifact_survives_its_index_and_a_move(export, agrees, tmp_path):
    model = uneven("llama")
    moved = export(model).folder.rename(tmp_path / "elsewhere")
    agrees(Artifact.load(moved), model, steps=2)
