"""What checkpoints vary beside their widths: windows, rotations, biases, activations, head counts."""

import onnxruntime
import pytest
import torch
from tiny import single_query_heads, tiny, uneven

from numprune_export.core.errors import MissingExtraError, UnsupportedModelError
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

pytestmark = pytest.mark.parametrize("graph", ["gqa", "standard"])

LAYER_TYPES = ["full_attention", "sliding_attention", "full_attention"]
ROTATIONS = {
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
}


def agrees_or_is_refused(artifact, model, agrees, graph):
    """onnxruntime 1.23, the last for Python 3.10, runs windowed GroupQueryAttention wrongly."""
    if graph == "gqa" and tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 24):
        with pytest.raises(MissingExtraError, match=r"onnxruntime 1\.24"):
            OnnxExporter().open(artifact, threads=1, capacity=8)
    else:
        agrees(artifact, model)


def test_sliding_window_in_every_layer(export, agrees, graph):
    model = uneven("mistral", sliding_window=5)
    agrees_or_is_refused(export(model, graph), model, agrees, graph)


def test_a_runtime_too_old_for_the_graph_is_refused_before_it_is_wrong(export, graph, monkeypatch):
    windowed = export(uneven("mistral", sliding_window=5), graph)
    plain = export(uneven("mistral"), graph)
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    OnnxExporter().open(plain, threads=1, capacity=8)
    if graph == "standard":
        OnnxExporter().open(windowed, threads=1, capacity=8)
    else:
        with pytest.raises(MissingExtraError, match=r"needs onnxruntime 1\.24") as caught:
            OnnxExporter().open(windowed, threads=1, capacity=8)
        assert "graph: standard" in caught.value.hint


def test_sliding_window_over_kv_heads_of_different_groups(export, agrees, graph):
    model = single_query_heads("mistral", sliding_window=5)
    agrees_or_is_refused(export(model, graph), model, agrees, graph)


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_sliding_window_in_some_layers(export, agrees, graph, model_type):
    model = uneven(model_type, use_sliding_window=True, sliding_window=5, layer_types=LAYER_TYPES)
    agrees_or_is_refused(export(model, graph), model, agrees, graph)


@pytest.mark.parametrize("kind", sorted(ROTATIONS))
def test_scaled_rotation(export, agrees, graph, kind):
    rotation = {"rope_type": kind, "rope_theta": 500.0, **ROTATIONS[kind]}
    model = uneven("llama", rope_parameters=rotation)
    agrees(export(model, graph), model)


@pytest.mark.parametrize("head_dim", [2, 16, 24, 32])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_head_widths_that_the_fused_kernel_does_and_does_not_take(
    export, agrees, graph, model_type, head_dim
):
    model = uneven(model_type, head_dim=head_dim)
    agrees(export(model, graph), model, steps=6)


@pytest.mark.parametrize("kv_heads", [8, 1])
def test_no_grouping_and_one_group(export, agrees, graph, kv_heads):
    model = uneven("llama", num_key_value_heads=8) if kv_heads == 8 else tiny(num_key_value_heads=1)
    agrees(export(model, graph), model, steps=6)


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_activation(export, agrees, graph, name):
    model = uneven("llama", hidden_act=name)
    agrees(export(model, graph), model, steps=2)


def test_biases_of_the_checkpoint(export, agrees, graph):
    model = uneven("llama", attention_bias=True, mlp_bias=True)
    agrees(export(model, graph), model, steps=6)


def test_biases_that_compensation_adds(export, agrees, graph):
    model = uneven("qwen2")
    for block in model.model.layers[1:]:
        _add_bias(block.self_attn.o_proj)
        _add_bias(block.mlp.down_proj)
    _add_bias(model.lm_head)
    agrees(export(model, graph), model, steps=6)


def test_bias_on_one_of_the_packed_projections(export, agrees, graph):
    model = uneven("llama")
    _add_bias(model.model.layers[0].self_attn.v_proj)
    agrees(export(model, graph), model, steps=2)


def _add_bias(linear):
    bias = torch.randn(linear.out_features, generator=torch.Generator().manual_seed(3))
    linear.bias = torch.nn.Parameter(bias)


def test_unknown_activation_is_refused_before_anything_is_written(tmp_path, graph):
    decoder = FAMILIES["llama"].decoder(tiny(hidden_act="mish"))
    with pytest.raises(UnsupportedModelError, match="`mish`"):
        OnnxExporter().export(decoder, tmp_path, OnnxSettings(graph=graph))
    assert not list(tmp_path.iterdir())
