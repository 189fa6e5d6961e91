"""The written files: operators, names, shapes, sizes, hashes, and that they are reproducible."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import single_query_heads, uneven

from numprune_export.export.artifact import Artifact, sha256_of

GRAPHS = ("gqa", "standard")
COPIES_OF_KV = {"Expand", "Tile", "Gather", "GatherElements"}
DATA_DEPENDENT = {"NonZero", "Compress", "Unique", "If", "Loop", "Scan", "NonMaxSuppression"}


def loaded(artifact):
    return onnx.load(artifact.folder / artifact.entry, load_external_data=False)


def operators(graph, layer):
    return Counter(n.op_type for n in graph.node if n.name.startswith(f"layers.{layer}/"))


@pytest.mark.parametrize("graph", GRAPHS)
def test_checker_accepts_it(export, graph):
    artifact = export(uneven("qwen3"), graph)
    onnx.checker.check_model(artifact.folder / artifact.entry, full_check=True)


def test_gqa_graph_has_one_fused_attention_per_layer_and_five_matmuls(export):
    graph = loaded(export(uneven("llama", head_dim=16))).graph
    for layer in range(3):
        census = operators(graph, layer)
        assert census["GroupQueryAttention"] == 1
        assert census["MatMul"] == 5
        assert not census.keys() & {*COPIES_OF_KV, "Pad", "Reshape", "Transpose", "Concat"}


def test_gqa_graph_has_a_fused_attention_for_each_run_of_equal_groups(export):
    graph = loaded(export(single_query_heads("llama", head_dim=16))).graph
    for layer, runs in enumerate(([(2, 4), (1, 1)], [(1, 2), (2, 2)], [(2, 2)])):
        nodes = [n for n in graph.node if n.name.startswith(f"layers.{layer}/")]
        attentions = [attributes(n) for n in nodes if n.op_type == "GroupQueryAttention"]
        assert [
            (attention["kv_num_heads"], attention["num_heads"]) for attention in attentions
        ] == runs
        census = operators(graph, layer)
        assert census["MatMul"] == 5
        assert census["Split"] == census["Concat"] == (len(runs) > 1)
        assert not census.keys() & {*COPIES_OF_KV, "Pad", "Reshape", "Transpose"}


def test_gqa_graph_keeps_a_cache_for_each_run(export):
    graph = loaded(export(single_query_heads("qwen3", head_dim=16))).graph
    heads = {"0.0": 2, "0.1": 1, "1.0": 1, "1.1": 2, "2": 2}
    for ports, name in ((graph.input, "past_key_values"), (graph.output, "present")):
        caches = {port.name: _shape(port) for port in ports if port.name.startswith(name)}
        assert caches == {
            f"{name}.{run}.{part}": ["batch", count, "capacity", 16]
            for run, count in heads.items()
            for part in ("key", "value")
        }
    norms = [
        initializer.name
        for initializer in graph.initializer
        if initializer.name.endswith("query_norm")
    ]
    layers = [f"layers.{run}" for run in ("0/runs.0", "0/runs.1", "1/runs.0", "1/runs.1", "2")]
    assert norms == [f"{layer_name}/attention.query_norm" for layer_name in layers]


def attributes(node):
    return {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }


@pytest.mark.parametrize("graph", GRAPHS)
def test_onnx_runtime_fuses_every_norm_and_activation(export, tmp_path, graph):
    artifact = export(uneven("llama"), graph)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the optimised file suits this machine only
    onnxruntime.InferenceSession(artifact.folder / artifact.entry, options)
    optimised = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
    census = Counter(node.op_type for node in optimised.graph.node)
    assert census["SimplifiedLayerNormalization"] == 2 * 3 + 1
    assert census["QuickGelu"] == 3
    assert census["FusedMatMul"] == (3 if graph == "standard" else 0)
    assert not census.keys() & {"ReduceMean", "Sigmoid"}


def test_standard_graph_is_standard_and_never_repeats_keys(export):
    model = loaded(export(uneven("mistral", sliding_window=5), "standard"))
    assert {opset.domain for opset in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & DATA_DEPENDENT
    for layer in range(3):
        census = operators(model.graph, layer)
        assert census["MatMul"] == 7
        assert census["Softmax"] == 1
        assert not census.keys() & COPIES_OF_KV


def test_standard_graph_of_uneven_groups_attends_run_by_run_over_one_cache(export):
    graph = loaded(export(single_query_heads("llama"), "standard")).graph
    ports = {port.name: _shape(port) for port in (*graph.input, *graph.output)}
    for layer, (kv_heads, runs) in enumerate(((3, 2), (3, 2), (2, 1))):
        assert ports[f"past_key_values.{layer}.key"] == ["batch", kv_heads, "past", 8]
        assert ports[f"present.{layer}.value"] == ["batch", kv_heads, "total", 8]
        census = operators(graph, layer)
        assert census["MatMul"] == 5 + 2 * runs
        assert census["Softmax"] == runs
        assert not census.keys() & COPIES_OF_KV


def test_standard_graph_follows_the_usual_names_and_keeps_kv_heads_static(export):
    graph = loaded(export(uneven("llama"), "standard")).graph
    ports = {port.name: _shape(port) for port in (*graph.input, *graph.output)}
    kv_heads = (3, 1, 2)
    assert ports == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "total"],
        "position_ids": ["batch", "sequence"],
        "logits_positions": ["batch", "k"],
        "logits": ["batch", "k", 97],
        **{
            f"{name}.{layer}.{part}": ["batch", heads, length, 8]
            for name, length in (("past_key_values", "past"), ("present", "total"))
            for layer, heads in enumerate(kv_heads)
            for part in ("key", "value")
        },
    }


def _shape(port):
    dims = port.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


@pytest.mark.parametrize("graph", GRAPHS)
def test_facts_describe_inputs_and_outputs(export, graph):
    artifact = export(uneven("llama"), graph)
    facts = Artifact.load(artifact.folder).facts
    assert facts["graph"] == graph
    assert facts["opsets"]["ai.onnx"] == 20
    assert facts["inputs"]["logits_positions"] == {"type": "int64", "shape": ["batch", "k"]}
    session = onnxruntime.InferenceSession(artifact.folder / artifact.entry)
    assert [*facts["inputs"]] == [port.name for port in session.get_inputs()]
    assert [*facts["outputs"]] == [port.name for port in session.get_outputs()]


@pytest.mark.parametrize("graph", GRAPHS)
def test_tied_vocabulary_matrix_is_stored_once(export, graph):
    apart, tied = (export(uneven(tie_word_embeddings=tie), graph) for tie in (False, True))
    weights = [(artifact.folder / "model.onnx.data").stat().st_size for artifact in (apart, tied)]
    assert weights[0] - weights[1] == 97 * 64 * 4


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_file_is_hashed_and_counted(export, graph):
    artifact = export(uneven(), graph)
    written = {path.name for path in artifact.folder.iterdir()} - {Artifact.INDEX}
    assert written == set(artifact.files)
    assert artifact.files == {name: sha256_of(artifact.folder / name) for name in written}
    assert artifact.size_bytes == sum((artifact.folder / n).stat().st_size for n in written)


@pytest.mark.parametrize("graph", GRAPHS)
def test_same_model_gives_the_same_bytes(export, graph):
    first, again = (export(uneven("qwen3"), graph) for _ in range(2))
    assert first.files == again.files
    assert first.files != export(uneven("qwen3", seed=1), graph).files


def test_standard_graph_takes_left_padding(export):
    """Another runtime may pad on the left; the window must not be shifted by the padding."""
    model = uneven("mistral", sliding_window=4)
    artifact = export(model, "standard")
    session = onnxruntime.InferenceSession(artifact.folder / artifact.entry)
    tokens = np.random.default_rng(0).integers(0, 97, (2, 9))
    mask = np.array([[1] * 9, [0] * 4 + [1] * 5])
    empty = {
        port.name: np.zeros((2, port.shape[1], 0, port.shape[3]), np.float32)
        for port in session.get_inputs()
        if port.name.startswith("past")
    }
    (logits,) = session.run(
        ["logits"],
        {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": np.maximum(mask.cumsum(1) - 1, 0),
            "logits_positions": np.array([[2, 8], [6, 8]]),
            **empty,
        },
    )
    with torch.no_grad():
        full = model(torch.from_numpy(tokens[:1])).logits[0, [2, 8]].numpy()
        short = model(torch.from_numpy(tokens[1:, 4:])).logits[0, [2, 4]].numpy()
    np.testing.assert_allclose(logits, [full, short], rtol=0, atol=1e-4)
