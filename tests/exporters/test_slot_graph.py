"""The graph that engines are built from, run by ONNX Runtime: it is the PyTorch model."""

from collections import Counter

import numpy as np
import onnx
import onnx.reference
import onnx_ir
import onnxruntime
import pytest
import torch
from tiny import MODEL_TYPES, single_query_heads, uneven

from numprune_export.core.errors import NumericalError
from numprune_export.models.families import FAMILIES
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.onnx.slot_session import SlotOnnx
from numprune_exporters.runners.decoder import CheckedRunner
from numprune_exporters.runners.slot_steps import SlotSteps

GRAPHS = ("fused", "decomposed")
LENGTHS = np.array([5, 9, 3])
STEPS = 6
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}


@pytest.fixture
def written(tmp_path):
    """Write a model's graph and give its path."""

    def write(model, graph, dtype="float32"):
        path = tmp_path / f"{graph}.{dtype}.onnx"
        decoder = FAMILIES[model.config.model_type].decoder(model)
        onnx_ir.save(slot_graph.build(decoder, {}, dtype, graph), path, external_data="w.data")
        onnx.checker.check_model(path, full_check=True)
        return path

    return write


def opened(path, capacity):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    steps = SlotSteps(SlotOnnx(session, capacity=capacity), capacity=capacity)
    return CheckedRunner(steps, vocabulary=97, capacity=capacity)


def largest_error(path, model, lengths=LENGTHS, steps=STEPS):
    """Largest difference from PyTorch: padded prompts, all positions, last positions, decode steps."""
    random = np.random.default_rng(0)
    prompt = random.integers(0, 97, (len(lengths), lengths.max() + 1))  # no row is full
    teacher = random.integers(0, 97, (len(lengths), steps))
    expected = [
        forward(model, np.concatenate([row[:n], rest]))
        for row, n, rest in zip(prompt, lengths, teacher, strict=True)
    ]
    errors = []
    with opened(path, capacity=int(lengths.max()) + steps) as runner:
        for _ in range(2):  # the second prompt must find nothing of the first
            every = runner.prefill(prompt, lengths, all_positions=True)
            last = runner.prefill(prompt, lengths)
            for row, n in enumerate(lengths):
                errors += [every[row, :n] - expected[row][:n], last[row] - expected[row][n - 1]]
            for step in range(steps):
                logits = runner.decode(teacher[:, step])
                errors += [logits[row] - expected[row][n + step] for row, n in enumerate(lengths)]
    return max(float(np.abs(error).max()) for error in errors)


def forward(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens)[None]).logits[0].float().numpy()


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padded_batch_then_decode_matches_pytorch(written, model_type, graph):
    model = uneven(model_type)
    assert largest_error(written(model, graph), model) < 1e-4


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_kv_heads_with_different_numbers_of_query_heads_match_pytorch(written, model_type, graph):
    model = single_query_heads(model_type)
    assert largest_error(written(model, graph), model) < 1e-4


@pytest.mark.parametrize("made", [uneven, single_query_heads])
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", ["mistral", "qwen3"])
def test_sliding_windows_count_real_tokens_only(written, model_type, graph, made):
    windows = {"use_sliding_window": True} if model_type == "qwen3" else {}
    model = made(model_type, sliding_window=4, **windows)
    assert largest_error(written(model, graph), model) < 1e-4


@pytest.mark.parametrize("made", [uneven, single_query_heads])
@pytest.mark.parametrize("graph", GRAPHS)
def test_half_precision_is_as_near_as_pytorch_in_half_precision(written, graph, made):
    model = made("llama", head_dim=16)
    path = written(model, graph, "float16")
    tokens = np.random.default_rng(1).integers(0, 97, 40)
    exact, half = forward(model, tokens), forward(model.half(), tokens)
    with opened(path, capacity=40) as runner:
        got = runner.prefill(tokens[None], all_positions=True)[0]
    assert np.abs(got - exact).max() <= 3 * np.abs(half - exact).max()
    assert np.abs(got - exact).max() > 1e-4  # it did compute in fp16


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("dtype", SIZES)
def test_weights_and_caches_are_of_the_dtype_and_logits_are_fp32(written, graph, dtype):
    path = written(uneven("qwen3"), graph, dtype)
    model = onnx.load(path, load_external_data=False).graph
    element = {"float32": 1, "float16": 10, "bfloat16": 16}[dtype]
    ports = {port.name: port.type.tensor_type.elem_type for port in (*model.input, *model.output)}
    assert ports.pop("logits") == 1
    assert {ports.pop(name) for name in ("input_ids", "logits_positions", "position_ids")} == {7}
    assert ports.pop("slot_positions") == 7
    assert set(ports.values()) == {element}
    matrices = {
        initializer.name: initializer.data_type
        for initializer in model.initializer
        if len(initializer.dims) == 2
    }
    assert set(matrices.values()) == {element}


@pytest.mark.parametrize("made", [uneven, single_query_heads])
@pytest.mark.parametrize("graph", GRAPHS)
def test_brain_float_graph_computes_the_model(written, graph, made):
    """ONNX Runtime's CPU has no bf16 kernels for it; ONNX's own evaluator does, slowly."""
    model = made("llama")
    tokens = np.random.default_rng(1).integers(0, 97, (1, 6))
    exact = forward(model, tokens[0])
    brain = forward(model.to(torch.bfloat16), tokens[0])
    feeds = {
        "input_ids": tokens,
        "position_ids": np.arange(6)[None],
        "logits_positions": np.arange(6)[None],
        "slot_positions": np.full((1, 1), -1),
    }
    graph_file = onnx.load(written(model, graph, "bfloat16"))
    for port in graph_file.graph.input[4:]:
        shape = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
        feeds[port.name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(16))
    (logits,) = onnx.reference.ReferenceEvaluator(graph_file).run(["logits"], feeds)
    assert np.abs(logits[0] - exact).max() <= 3 * np.abs(brain - exact).max()


def test_census_of_the_fused_graph(written):
    census = Counter(
        (node.name.partition("/")[0], node.op_type)
        for node in onnx.load(
            written(uneven("llama"), "fused"), load_external_data=False
        ).graph.node
    )
    for layer in range(3):
        name = f"layers.{layer}"
        assert census[name, "Attention"] == 1
        assert census[name, "RotaryEmbedding"] == 2
        assert census[name, "RMSNormalization"] == 2
        assert census[name, "MatMul"] == 5
        assert not census[name, "Expand"] + census[name, "Tile"] + census[name, "Softmax"]


def test_census_of_the_decomposed_graph(written):
    graph = onnx.load(written(uneven("llama"), "decomposed"), load_external_data=False).graph
    assert {node.domain for node in graph.node} == {""}
    caches = {port.name for port in graph.input if port.name.startswith("past_key_values")}
    for layer in range(3):
        nodes = [
            layer_node
            for layer_node in graph.node
            if layer_node.name.startswith(f"layers.{layer}/")
        ]
        census = Counter(layer_node.op_type for layer_node in nodes)
        assert census["MatMul"] == 5 + 4  # projections; scores and mixing, of slots and of tokens
        assert census["Softmax"] == 1
        assert not census["Expand"] + census["Tile"]
        # The cache is read by products alone: nothing joins, grows or copies it.
        readers = {layer_node.op_type for layer_node in nodes if caches & set(layer_node.input)}
        assert readers == {"Transpose", "MatMul"}


@pytest.mark.parametrize("graph", GRAPHS)
def test_census_of_uneven_groups(written, graph):
    path = written(single_query_heads("llama"), graph)
    onnx_graph = onnx.load(path, load_external_data=False).graph
    ports = {port.name: port.type.tensor_type.shape.dim[0].dim_value for port in onnx_graph.input}
    for layer, (kv_heads, runs) in enumerate(((3, 2), (3, 2), (2, 1))):
        assert ports[f"past_key_values.{layer}.key"] == kv_heads  # one cache, its runs cut from it
        census = Counter(
            n.op_type for n in onnx_graph.node if n.name.startswith(f"layers.{layer}/")
        )
        if graph == "fused":
            assert census["Attention"] == runs
            assert census["RotaryEmbedding"] == 2
            assert census["MatMul"] == 5
        else:
            assert census["Softmax"] == runs
            assert census["MatMul"] == 5 + 4 * runs
        assert not census["Expand"] + census["Tile"] + census["Gather"]


def test_weight_too_large_for_half_precision_is_refused(written):
    model = uneven("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(NumericalError, match=r"layers\.1/mlp\.up.*float16") as caught:
        written(model, "decomposed", "float16")
    assert "bfloat16" in caught.value.hint
