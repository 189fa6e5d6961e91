"""The written files: operators per layer, names, shapes, hashes, and that they are reproducible."""

import re
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from exported_encoder import GRAPHS, emptied, encoder_of, export
from tiny_encoder import FAMILIES, TASKS, tiny_encoder, uneven_encoder

from numprune_export.core.errors import (
    NumericalError,
    OutputError,
    RecipeError,
    UnsupportedModelError,
)
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

MIXING = {"fused": "Attention", "standard": "Softmax"}
DATA_DEPENDENT = {"NonZero", "Compress", "Unique", "If", "Loop", "Scan", "NonMaxSuppression"}


def loaded(artifact):
    return onnx.load(artifact.folder / artifact.entry, load_external_data=False)


def operators(graph, layer):
    return Counter(n.op_type for n in graph.node if n.name.startswith(f"layers.{layer}/"))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_checker_accepts_it(tmp_path, model_type, graph):
    artifact = export(encoder_of(uneven_encoder(model_type)), tmp_path / "a", graph)
    onnx.checker.check_model(artifact.folder / artifact.entry, full_check=True)


@pytest.mark.parametrize("graph", GRAPHS)
def test_one_mixing_per_layer_and_none_in_an_emptied_one(tmp_path, graph):
    encoder = emptied(emptied(encoder_of(uneven_encoder()), 1, "attention"), 2, "mlp")
    written = loaded(export(encoder, tmp_path / "a", graph)).graph
    mixing = MIXING[graph]
    census = [operators(written, layer) for layer in range(3)]
    assert [counts[mixing] for counts in census] == [1, 0, 1]
    assert [counts["Gelu"] for counts in census] == [1, 1, 0]
    assert [counts["LayerNormalization"] for counts in census] == [2, 2, 2]
    matmuls = {"fused": [3, 2, 1], "standard": [8, 2, 6]}[graph]
    assert [counts["MatMul"] for counts in census] == matmuls
    weights = {initializer.name for initializer in written.initializer}
    gone = re.compile(
        r"layers\.1/attention\.(query|key|value|qkv|output\.weight)|layers\.2/mlp\.up"
    )
    assert not [name for name in weights if gone.match(name)]
    assert {"layers.1/attention.output.bias", "layers.2/mlp.down.bias"} <= weights


@pytest.mark.parametrize("graph", GRAPHS)
def test_weights_have_the_pruned_widths_and_nothing_is_of_a_mask(tmp_path, graph):
    encoder = encoder_of(uneven_encoder("bert", "token"))
    artifact = export(encoder, tmp_path / "a", graph)
    written = loaded(artifact).graph
    shapes = {initializer.name: tuple(initializer.dims) for initializer in written.initializer}
    for index, (heads, neurons) in enumerate(((3, 24), (1, 7), (2, 33))):
        assert shapes[f"layers.{index}/attention.output.weight"] == (8 * heads, 32)
        assert shapes[f"layers.{index}/mlp.up.weight"] == (32, neurons)
        assert shapes[f"layers.{index}/mlp.down.weight"] == (neurons, 32)
    stored = sum(int(np.prod(dims)) for dims in shapes.values())
    parameters = [encoder.embedding, encoder.position_embedding, encoder.type_embedding]
    parameters += [encoder.embedding_norm.weight, encoder.embedding_norm.bias]
    parameters += [encoder.head.classifier.weight, encoder.head.classifier.bias]
    for layer in encoder.layers:
        for projection in (layer.query, layer.key, layer.value, layer.output, layer.up, layer.down):
            parameters += [projection.weight, projection.bias]
        for norm in (layer.attention_norm, layer.mlp_norm):
            parameters += [norm.weight, norm.bias]
    # What is left are axes, shapes and the scale: a handful of numbers.
    assert 0 <= stored - sum(parameter.numel() for parameter in parameters) < 40


def test_standard_graph_is_standard(tmp_path):
    model = loaded(export(encoder_of(uneven_encoder()), tmp_path / "a", "standard"))
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & DATA_DEPENDENT


@pytest.mark.parametrize("graph", GRAPHS)
def test_onnx_runtime_fuses_bias_and_activation(tmp_path, graph):
    artifact = export(encoder_of(uneven_encoder()), tmp_path / "a", graph)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the optimised file suits this machine only
    onnxruntime.InferenceSession(artifact.folder / artifact.entry, options)
    optimised = onnx.load(tmp_path / "optimised.onnx", load_external_data=False)
    census = Counter(node.op_type for node in optimised.graph.node)
    assert census["BiasGelu"] == 3
    assert census["FusedMatMul"] == (3 if graph == "standard" else 0)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_facts_describe_inputs_and_outputs(tmp_path, model_type, task, graph):
    artifact = export(encoder_of(tiny_encoder(model_type, task)), tmp_path / "a", graph)
    facts = Artifact.load(artifact.folder).facts
    said = {name: facts[name] for name in ("network", "task", "graph", "dtype", "max_positions")}
    assert said == {
        "network": "encoder",
        "task": task,
        "graph": graph,
        "dtype": "float32",
        "max_positions": 64,
    }
    names = ["input_ids", "attention_mask", "token_type_ids"]
    names = names[:2] if model_type == "distilbert" else names
    assert facts["inputs"] == {
        name: {"type": "int64", "shape": ["batch", "length"]} for name in names
    }
    classes = 2 if task == "span" else 5
    shape = ["batch", classes] if task == "sequence" else ["batch", "length", classes]
    assert facts["outputs"] == {"logits": {"type": "float", "shape": shape}}
    session = onnxruntime.InferenceSession(artifact.folder / artifact.entry)
    assert names == [port.name for port in session.get_inputs()]
    assert session.get_outputs()[0].shape == shape


def test_every_file_is_hashed_and_counted(tmp_path):
    artifact = export(encoder_of(uneven_encoder()), tmp_path / "a")
    written = {path.name for path in artifact.folder.iterdir()} - {Artifact.INDEX}
    assert artifact.files == {name: sha256_of(artifact.folder / name) for name in written}
    assert artifact.size_bytes == sum((artifact.folder / n).stat().st_size for n in written)


@pytest.mark.parametrize("graph", GRAPHS)
def test_same_model_gives_the_same_bytes(tmp_path, graph):
    first, again, other = (
        export(encoder_of(uneven_encoder("bert", "token", seed)), tmp_path / name, graph)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.files == again.files
    assert first.files != other.files


def test_half_precision_halves_the_weights_and_keeps_norms_wide(tmp_path):
    encoder = encoder_of(uneven_encoder())
    wide, narrow = (export(encoder, tmp_path / d, dtype=d) for d in ("float32", "float16"))
    kinds = {
        initializer.name: initializer.data_type for initializer in loaded(narrow).graph.initializer
    }
    assert kinds["layers.0/attention.qkv.weight"] == onnx.TensorProto.FLOAT16
    assert kinds["layers.0/attention_norm.weight"] == onnx.TensorProto.FLOAT
    assert narrow.facts["dtype"] == "float16"
    assert narrow.facts["outputs"]["logits"]["type"] == "float"
    sizes = [(artifact.folder / "model.onnx.data").stat().st_size for artifact in (wide, narrow)]
    assert sizes[1] < 0.6 * sizes[0]


def test_weights_beyond_half_precision_are_refused(tmp_path):
    model = uneven_encoder()
    model.classifier.weight.data[0, 0] = 1e6
    with pytest.raises(NumericalError, match=r"head/classifier.weight.*float16"):
        export(encoder_of(model), tmp_path / "a", dtype="float16")


def test_an_activation_without_a_graph_is_refused(tmp_path):
    encoder = encoder_of(uneven_encoder("bert", hidden_act="mish"))
    with pytest.raises(UnsupportedModelError, match="`mish`") as caught:
        export(encoder, tmp_path / "a")
    assert "gelu" in caught.value.hint
    assert not [*(tmp_path / "a").iterdir()]


def test_a_graph_of_decoders_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"targets.onnx.graph.*`gqa`.*decoders") as caught:
        export(encoder_of(uneven_encoder()), tmp_path / "a", "gqa")
    assert "`fused` or `standard`" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        OnnxExporter().export(encoder_of(uneven_encoder()), tmp_path / "absent", OnnxSettings())
