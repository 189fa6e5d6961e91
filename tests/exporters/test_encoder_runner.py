"""What an encoder's runner refuses, and what it leaves as it was."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from exported_encoder import WIDTH, encoder_of, export, texts
from tiny import uneven
from tiny_encoder import uneven_encoder

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.export.runner import EncoderRunner
from numprune_export.models.families import llama
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings
from numprune_exporters.onnx_cuda.target import OnnxCudaExporter

GOOD = np.full((2, 4), 7)


@pytest.fixture
def runner(tmp_path):
    artifact = export(encoder_of(uneven_encoder("bert")), tmp_path / "a")
    with OnnxExporter().open(artifact, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.full((1, 65), 7),), r"a text of `65` tokens exceeds the model's `64` positions"),
        ((np.array([[7, 101]]),), r"token `101` is outside the vocabulary of `101`"),
        ((np.array([[7, -1]]),), r"token `-1` is outside"),
        ((np.array([7, 8]),), r"tokens of shape `\(2,\)`"),
        ((np.zeros((0, 4), int),), r"tokens of shape `\(0, 4\)`"),
        ((GOOD.astype(float),), r"type `float64`"),
        ((GOOD, np.array([4, 5])), r"lengths `\[4, 5\]` do not fit"),
        ((GOOD, np.array([0, 4])), r"lengths `\[0, 4\]` do not fit"),
        ((GOOD, np.array([4])), r"lengths `\[4\]` do not fit"),
        ((GOOD, None, np.full((2, 4), 2)), r"token type `2` is outside the model's `2` types"),
        ((GOOD, None, np.full((2, 4), -1)), r"token type `-1` is outside"),
        ((GOOD, None, np.zeros((2, 3), int)), r"token types of shape `\(2, 3\)`"),
    ],
)
def test_wrong_input_is_refused_and_the_next_call_works(runner, given, message):
    with pytest.raises(InputError, match=message) as caught:
        runner.forward(*given)
    assert caught.value.hint
    assert runner.forward(GOOD).shape == (2, 5)


def test_answers_of_earlier_calls_are_not_overwritten(runner):
    first = runner.forward(GOOD)
    kept = first.copy()
    runner.forward(GOOD + 1)
    np.testing.assert_array_equal(first, kept)


def test_what_is_given_is_not_changed(runner):
    tokens, types = texts(uneven_encoder("bert"))
    lengths = np.array([5, 8, 3])
    before = [array.copy() for array in (tokens, lengths, types)]
    runner.forward(tokens, lengths, types)
    for array, other in zip((tokens, lengths, types), before, strict=True):
        np.testing.assert_array_equal(array, other)


def test_columns_that_are_padding_in_every_row_are_not_run(tmp_path):
    """They cost nothing and may exceed what differs between batches; their answers are zeros."""
    model = uneven_encoder("distilbert", "token")
    artifact = export(encoder_of(model), tmp_path / "a")
    tokens, _ = texts(model)
    with OnnxExporter().open(artifact, threads=1) as runner:
        wide = runner.forward(tokens, np.array([4, 2, 3]))
        tight = runner.forward(tokens[:, :4], np.array([4, 2, 3]))
    assert wide.shape == (3, WIDTH, 5)
    np.testing.assert_array_equal(wide[:, :4], tight)
    assert not wide[:, 4:].any()


def test_types_are_ignored_by_a_model_that_has_none(tmp_path):
    artifact = export(encoder_of(uneven_encoder("distilbert")), tmp_path / "a")
    with OnnxExporter().open(artifact, threads=1) as runner:
        plain, typed = runner.forward(GOOD), runner.forward(GOOD, None, np.full((2, 4), 9))
    np.testing.assert_array_equal(plain, typed)


def test_a_closed_runner_says_so(runner):
    with runner:
        pass
    with pytest.raises(InputError, match="closed"):
        runner.forward(GOOD)


def test_an_altered_file_is_refused(tmp_path):
    artifact = export(encoder_of(uneven_encoder()), tmp_path / "a")
    weights = artifact.folder / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="sha256 differs"):
        OnnxExporter().open(artifact, threads=1)


def test_decoders_and_encoders_are_not_taken_for_each_other(tmp_path):
    exporter = OnnxExporter()
    encoder = export(encoder_of(uneven_encoder()), tmp_path / "encoder")
    with exporter.open(encoder, threads=1, capacity=8) as runner:
        assert isinstance(runner, EncoderRunner)
    with pytest.raises(InputError, match="holds an encoder, which `onnx-cuda` cannot run"):
        OnnxCudaExporter().open(replace(encoder, target="onnx-cuda"), threads=1, capacity=8)
    (tmp_path / "decoder").mkdir()
    tensors = llama.FAMILY.decoder(uneven())
    decoder = exporter.export(tensors, tmp_path / "decoder", OnnxSettings())
    with pytest.raises(InputError, match="needs a capacity"):
        exporter.open(decoder, threads=1)
    with pytest.raises(RecipeError, match="`fused` is a graph for encoders"):
        exporter.export(tensors, tmp_path / "decoder", OnnxSettings(graph="fused"))


def test_running_needs_neither_torch_nor_pydantic_nor_onnx(tmp_path):
    export(encoder_of(uneven_encoder()), tmp_path / "a")
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from numprune_export.export.artifact import Artifact\n"
        "from numprune_exporters.onnx.open import open_artifact\n"
        "artifact = Artifact.load(Path(sys.argv[1]))\n"
        "with open_artifact(artifact, threads=1) as runner:\n"
        "    assert runner.forward(np.array([[5, 6]])).shape == (1, 5)\n"
        "assert not {'torch', 'pydantic', 'onnx'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a"], check=True)
