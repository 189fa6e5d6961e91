"""What the runner refuses, and what it needs to be installed."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from pydantic import BaseModel, ValidationError
from tiny import tiny, uneven

from numprune_export.core.errors import InputError, MissingExtraError, OutputError, RecipeError
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.session import logit_count
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings

GRAPHS = ("gqa", "standard")


@pytest.fixture(params=GRAPHS)
def artifact(request, export):
    return export(uneven(), request.param)


@pytest.fixture
def runner(artifact):
    with OnnxExporter().open(artifact, threads=1, capacity=6) as opened:
        yield opened


@pytest.mark.parametrize(
    ("tokens", "lengths", "message"),
    [
        (np.array([1, 2]), None, "shape `(2,)`"),
        (np.zeros((0, 3), np.int64), None, "shape `(0, 3)`"),
        (np.zeros((1, 0), np.int64), None, "shape `(1, 0)`"),
        (np.array([[0.5]]), None, "type `float64`"),
        (np.array([[1, 97]]), None, "token `97` is outside the vocabulary of `97`"),
        (np.array([[-1, 1]]), None, "token `-1`"),
        (np.ones((1, 7), np.int64), None, "`7` tokens exceeds the capacity of `6`"),
        (np.ones((2, 3), np.int64), np.array([3]), "lengths `[3]`"),
        (np.ones((2, 3), np.int64), np.array([3, 0]), "lengths `[3, 0]`"),
        (np.ones((2, 3), np.int64), np.array([4, 1]), "lengths `[4, 1]`"),
    ],
)
def test_prefill_refuses(runner, tokens, lengths, message):
    with pytest.raises(InputError) as caught:
        runner.prefill(tokens, lengths)
    assert message in str(caught.value)
    assert caught.value.hint


def test_decode_before_prefill_is_refused(runner):
    with pytest.raises(InputError, match="before prefill"):
        runner.decode(np.array([1]))


def test_decode_of_another_batch_is_refused(runner):
    runner.prefill(np.array([[1, 2]]))
    with pytest.raises(InputError, match="`2` tokens for `1` sequences"):
        runner.decode(np.array([1, 2]))


def test_decode_of_an_unknown_token_is_refused_and_changes_nothing(runner):
    runner.prefill(np.array([[1, 2]]))
    expected = runner.decode(np.array([3]))
    runner.prefill(np.array([[1, 2]]))
    with pytest.raises(InputError, match="token `97`"):
        runner.decode(np.array([97]))
    np.testing.assert_array_equal(runner.decode(np.array([3])), expected)


def test_cache_holds_exactly_its_capacity(runner):
    runner.prefill(np.array([[1, 2, 3, 4], [5, 6, 0, 0]]), np.array([4, 2]))
    for _ in range(2):
        runner.decode(np.array([1, 1]))
    with pytest.raises(InputError, match="`7` tokens exceeds the capacity of `6`"):
        runner.decode(np.array([1, 1]))


def test_int32_tokens_are_taken(runner):
    expected = runner.prefill(np.array([[1, 2]]))
    np.testing.assert_array_equal(runner.prefill(np.array([[1, 2]], np.int32)), expected)


def test_closed_runner_says_so(artifact):
    with OnnxExporter().open(artifact, threads=1, capacity=6) as runner:
        pass
    with pytest.raises(InputError, match="closed"):
        runner.prefill(np.array([[1]]))


@pytest.mark.parametrize("capacity", [0, 129])
def test_capacity_beyond_the_positions_is_refused(artifact, capacity):
    with pytest.raises(InputError, match=f"`{capacity}` is outside the model's 1 to `128`"):
        OnnxExporter().open(artifact, threads=1, capacity=capacity)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_altered_file_is_refused(artifact, name):
    path = artifact.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}` is not the file that was exported"):
        OnnxExporter().open(artifact, threads=1, capacity=6)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_missing_file_is_refused(artifact, name):
    (artifact.folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}` is missing"):
        OnnxExporter().open(artifact, threads=1, capacity=6)


def test_entry_without_a_hash_is_refused(artifact):
    files = {name: digest for name, digest in artifact.files.items() if name != artifact.entry}
    bare = Artifact(artifact.target, artifact.folder, artifact.entry, files, artifact.facts)
    with pytest.raises(InputError, match="has no hash"):
        OnnxExporter().open(bare, threads=1, capacity=6)


def test_file_that_is_no_graph_is_refused(artifact):
    path = artifact.folder / artifact.entry
    path.write_bytes(b"not a graph")
    files = {**artifact.files, artifact.entry: sha256_of(path)}
    other = Artifact(artifact.target, artifact.folder, artifact.entry, files, artifact.facts)
    with pytest.raises(InputError, match="cannot load"):
        OnnxExporter().open(other, threads=1, capacity=6)


@pytest.mark.parametrize("name", [b"max_positions", b"logits", b"input_ids"])
def test_a_graph_with_a_name_that_is_not_text_is_refused(artifact, name):
    path = artifact.folder / artifact.entry
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    other = replace(artifact, files={**artifact.files, artifact.entry: sha256_of(path)})
    with pytest.raises(InputError, match="cannot load"):
        OnnxExporter().open(other, threads=1, capacity=6)


def test_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    decoder = FAMILIES["llama"].decoder(tiny())
    with pytest.raises(OutputError, match="cannot write"):
        OnnxExporter().export(decoder, tmp_path / "absent", OnnxSettings())


def test_settings_are_strict():
    assert OnnxSettings().graph is None
    for wrong in ({"graph": "fast"}, {"grph": "gqa"}, {"dtype": "bfloat16"}):
        with pytest.raises(ValidationError):
            OnnxSettings(**wrong)


def test_settings_of_another_target_are_refused(tmp_path):
    class Other(BaseModel):
        pass

    with pytest.raises(RecipeError, match="`Other`"):
        OnnxExporter().export(FAMILIES["llama"].decoder(tiny()), tmp_path, Other())


def test_availability_names_the_version_or_the_extra(monkeypatch):
    assert OnnxExporter().availability().ready
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = OnnxExporter().availability()
    assert not missing.ready
    assert "numprune-export[cpu]" in missing.install


def test_opening_without_onnxruntime_names_the_extra(artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError) as caught:
        OnnxExporter().open(artifact, threads=1, capacity=6)
    assert "numprune-export[cpu]" in caught.value.hint


def test_running_an_artifact_needs_no_torch(export):
    program = """
import sys
from pathlib import Path
import numpy as np
from numprune_export.export.artifact import Artifact
from numprune_exporters.onnx.target import OnnxExporter
with OnnxExporter().open(Artifact.load(Path(sys.argv[1])), threads=1, capacity=8) as runner:
    runner.prefill(np.array([[1, 2]]))
    runner.decode(np.array([3]))
print(*sorted({"torch", "transformers", "onnx", "onnx_ir"} & sys.modules.keys()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, export(uneven()).folder],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == []


def forge(artifact, change):
    """The same artifact with another graph, its hash as it should be."""
    path = artifact.folder / artifact.entry
    graph = onnx.load(path, load_external_data=False)
    change(graph)
    onnx.save(graph, path)
    files = dict(artifact.files) | {artifact.entry: sha256_of(path)}
    return replace(artifact, files=files)


def without_outputs(graph):
    """Only an output that nobody asked for is left: of two dimensions, both free."""
    del graph.graph.output[:]
    graph.graph.output.append(onnx.helper.make_tensor_value_info("input_ids", 7, ["a", "b"]))


def without_facts(graph):
    del graph.metadata_props[:]


def other_positions(graph):
    for fact in graph.metadata_props:
        if fact.key == "max_positions":
            fact.value = "many"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (without_outputs, "no output with a fixed number of logits|cannot load"),
        (without_facts, "has no metadata `max_positions`"),
        (other_positions, "has `many` as its metadata `max_positions`"),
    ],
)
def test_a_graph_of_another_program_is_an_input_error(change, what, artifact):
    with pytest.raises(InputError, match=what):
        OnnxExporter().open(forge(artifact, change), threads=1, capacity=6)


@pytest.mark.parametrize("shapes", [[], [[]], [["batch", None]], [["batch", "k"]]])
def test_outputs_that_give_no_logits(shapes):
    class Session:
        def get_outputs(self):
            return [SimpleNamespace(shape=shape) for shape in shapes]

    with pytest.raises(InputError, match="no output with a fixed number of logits"):
        logit_count(Session())
