"""Every family, every task, both graphs, uneven and emptied layers: the artifact is the model."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from exported_encoder import GRAPHS, WIDTH, emptied, encoder_of, export, silenced, texts
from tiny_encoder import FAMILIES, TASKS, tiny_encoder, uneven_encoder

from numprune_export.export.artifact import Artifact
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_exporters.onnx.target import OnnxExporter

LENGTHS = np.array([5, 8, 3])
TOLERANCE = 1e-5  # largest error met 1.3e-6, on logits of size 3
NARROW_TOLERANCE = 2e-2  # fp16; largest error met 3.3e-3


def pytorch(model, tokens, lengths=None, types=None):
    family = FAMILIES[model.config.model_type]
    with TorchEncoderRunner(model, family, threads=1) as runner:
        return runner.forward(tokens, lengths, types)


def forward(artifact, *given):
    with OnnxExporter().open(artifact, threads=1) as runner:
        return runner.forward(*given)


def close(task, got, expected, lengths=LENGTHS, atol=TOLERANCE):
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert np.abs(expected).max() > 0.5
    if task == "sequence":
        pairs = [(got, expected)]
    else:
        pairs = [(got[row, :n], expected[row, :n]) for row, n in enumerate(lengths)]
    for output, other in pairs:
        np.testing.assert_allclose(output, other, rtol=0, atol=atol)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_padded_batch_matches_pytorch(tmp_path, model_type, task, make, graph):
    model = make(model_type, task)
    tokens, types = texts(model)
    expected = pytorch(model, tokens, LENGTHS, types)
    tokens[np.arange(WIDTH) >= LENGTHS[:, None]] = -100  # what no embedding has
    types[np.arange(WIDTH) >= LENGTHS[:, None]] = 99
    got = forward(export(encoder_of(model), tmp_path / "a", graph), tokens, LENGTHS, types)
    close(task, got, expected)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_half_precision_is_close(tmp_path, model_type, task):
    model = uneven_encoder(model_type, task)
    tokens, types = texts(model)
    expected = pytorch(model, tokens, LENGTHS, types)
    for graph in GRAPHS:
        artifact = export(encoder_of(model), tmp_path / graph, graph, "float16")
        got = forward(artifact, tokens, LENGTHS, types)
        close(task, got, expected, atol=NARROW_TOLERANCE)
        assert np.abs(got - expected).max() > 1e-6  # it really is narrower


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_any_batch_and_length_up_to_the_longest_text(tmp_path, graph, batch, length):
    model = uneven_encoder("roberta", "token")
    assert encoder_of(model).max_positions == 64
    tokens, types = texts(model, batch, length)
    got = forward(export(encoder_of(model), tmp_path / "a", graph), tokens, None, types)
    close("token", got, pytorch(model, tokens, None, types), [length] * batch)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_row_is_what_it_is_alone(tmp_path, graph):
    model = uneven_encoder("bert", "token")
    tokens, types = texts(model)
    with OnnxExporter().open(export(encoder_of(model), tmp_path / "a", graph), threads=1) as runner:
        together = runner.forward(tokens, LENGTHS, types)
        for row, n in enumerate(LENGTHS):
            alone = runner.forward(tokens[row : row + 1, :n], None, types[row : row + 1, :n])
            np.testing.assert_allclose(together[row, :n], alone[0], rtol=0, atol=TOLERANCE)
    assert together.shape == (3, WIDTH, 5)


def test_token_types_count_and_are_zero_by_default(tmp_path):
    model = uneven_encoder("bert")
    artifact = export(encoder_of(model), tmp_path / "a")
    tokens, _ = texts(model)
    default, zeros, ones = (
        forward(artifact, tokens, LENGTHS, types)
        for types in (None, np.zeros((3, WIDTH), int), np.ones((3, WIDTH), int))
    )
    np.testing.assert_array_equal(default, zeros)
    assert np.abs(default - ones).max() > 1e-2


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("sublayer", ["attention", "mlp"])
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_an_emptied_sublayer_is_its_bias(tmp_path, model_type, sublayer, graph):
    model = uneven_encoder(model_type, "token")
    tokens, types = texts(model)
    encoder = emptied(encoder_of(model), 1, sublayer)
    got = forward(export(encoder, tmp_path / "a", graph), tokens, LENGTHS, types)
    close("token", got, pytorch(silenced(model, 1, sublayer), tokens, LENGTHS, types))


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_model_without_any_unit_still_answers(tmp_path, graph):
    model = uneven_encoder("distilbert", "token")
    encoder = encoder_of(model)
    for layer in range(3):
        for sublayer in ("attention", "mlp"):
            encoder = emptied(encoder, layer, sublayer)
            silenced(model, layer, sublayer)
    tokens, _ = texts(model)
    close("token", forward(export(encoder, tmp_path / "a", graph), tokens, LENGTHS),
          pytorch(model, tokens, LENGTHS))  # fmt: skip


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations(tmp_path, activation):
    model = uneven_encoder("bert", "token", hidden_act=activation)
    tokens, types = texts(model)
    expected = pytorch(model, tokens, LENGTHS, types)
    for graph in GRAPHS:
        artifact = export(encoder_of(model), tmp_path / graph, graph)
        close("token", forward(artifact, tokens, LENGTHS, types), expected)


SERVE = """
import json, sys
import numpy, onnxruntime
folder, given = sys.argv[1], json.loads(sys.argv[2])
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
feed = {name: numpy.array(rows, numpy.int64) for name, rows in given.items()}
print(json.dumps(session.run(None, feed)[0].tolist()))
assert not [one for one in sys.modules if one.startswith(("numprune", "torch", "onnx."))]
"""


@pytest.mark.parametrize("graph", GRAPHS)
def test_onnx_runtime_alone_serves_the_files(tmp_path, graph):
    model = uneven_encoder("bert", "span")
    tokens, types = texts(model)
    mask = (np.arange(WIDTH) < LENGTHS[:, None]).astype(int)
    export(encoder_of(model), tmp_path / "a", graph)
    given = {"input_ids": tokens * mask, "attention_mask": mask, "token_type_ids": types}
    content = json.dumps({name: rows.tolist() for name, rows in given.items()})
    run = subprocess.run(
        [sys.executable, "-I", "-c", SERVE, tmp_path / "a", content],
        capture_output=True,
        text=True,
        check=True,
    )
    got = np.array(json.loads(run.stdout), np.float32)
    close("span", got, pytorch(model, tokens, LENGTHS, types))


def test_artifact_survives_its_index_and_a_move(tmp_path):
    model = uneven_encoder("distilbert")
    moved = export(encoder_of(model), tmp_path / "a").folder.rename(tmp_path / "b")
    tokens, _ = texts(model)
    close("sequence", forward(Artifact.load(moved), tokens, LENGTHS),
          pytorch(model, tokens, LENGTHS))  # fmt: skip


def test_bfloat16_weights_are_exported_exactly(tmp_path):
    model = uneven_encoder("bert", "token").bfloat16()
    artifact = export(encoder_of(model), tmp_path / "a")
    tokens, types = texts(model)
    close("token", forward(artifact, tokens, LENGTHS, types),
          pytorch(model.float(), tokens, LENGTHS, types))  # fmt: skip


def test_a_row_that_is_all_padding_gives_numbers_and_disturbs_no_other(tmp_path):
    """A caller without our runner may mask every token of a row; the other rows stay right."""
    model = uneven_encoder("distilbert", "token")
    tokens, _ = texts(model)
    expected = pytorch(model, tokens)
    mask = np.ones((3, WIDTH), np.int64)
    mask[1] = 0
    for graph in GRAPHS:
        artifact = export(encoder_of(model), tmp_path / graph, graph)
        session = onnxruntime.InferenceSession(artifact.folder / artifact.entry)
        (got,) = session.run(None, {"input_ids": tokens, "attention_mask": mask})
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got[[0, 2]], expected[[0, 2]], rtol=0, atol=TOLERANCE)
