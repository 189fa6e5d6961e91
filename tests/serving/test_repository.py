"""What lies in a package: files a server accepts, code that needs nothing else, one copy of weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tiny import single_query_heads, uneven
from tritonclient.grpc import model_config_pb2

import numprune_export
import numprune_exporters
from numprune_export.core.errors import UnsupportedModelError
from numprune_export.core.telemetry import SWITCHES
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.export.targets import find
from numprune_export.models.families import FAMILIES
from numprune_export.recipe import builtin_dir
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings
from numprune_exporters.triton import TritonPackager
from numprune_exporters.triton.runtime_copy import closure
from numprune_exporters.triton.settings import TritonSettings

CONFIGS = ["repository/tiny/config.pbtxt", "native/tiny_graph/config.pbtxt"]
HEADS = (3, 1, 2)


@pytest.fixture(scope="module", params=["gqa", "standard"])
def packaged(request, tmp_path_factory):
    """Graph flavour, artifact and package of a model whose layers keep 3, 1 and 2 KV heads.

    With `uneven groups` after the flavour: 3, 3 and 2, which serve different numbers of query heads.
    """
    artifact_folder = tmp_path_factory.mktemp("artifact")
    graph, _, groups = request.param.partition(" ")
    decoder = FAMILIES["llama"].decoder(single_query_heads() if groups else uneven())
    settings = OnnxSettings(graph=graph)
    artifact = OnnxExporter().export(decoder, artifact_folder, settings)
    folder = tmp_path_factory.mktemp("package")
    TritonPackager().package(
        artifact, builtin_dir() / "tiny-llama", folder, TritonSettings(name="tiny")
    )
    return graph, artifact, folder


def config_of(path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def ports(config):
    return {port.name: list(port.dims) for port in (*config.input, *config.output)}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_one_by_tritons_own_schema(packaged, name):
    _, _, folder = packaged
    config = config_of(folder / name)
    assert config.name == Path(name).parent.name
    with pytest.raises(text_format.ParseError, match="no field named"):
        text_format.Parse(
            (folder / name).read_text() + "max_batch: 3\n", model_config_pb2.ModelConfig()
        )


def test_the_text_model_says_how_it_is_batched_and_warmed_up(packaged):
    config = config_of(packaged[2] / CONFIGS[0])
    assert config.backend == "python"
    assert config.model_transaction_policy.decoupled
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert list(config.dynamic_batching.preferred_batch_size) == [config.max_batch_size] == [8]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8]
    prompt = (packaged[2] / "repository" / "tiny" / "warmup" / "prompt").read_bytes()
    assert prompt == b"\5\0\0\0Hello"
    assert config.parameters["capacity"].string_value == "128"
    optional = {port.name for port in config.input if port.optional}
    assert optional == {port.name for port in config.input} - {"text_input"}


def test_the_bare_graph_keeps_each_layers_cache_as_state_or_takes_it(packaged):
    graph, _, folder = packaged
    config = config_of(folder / CONFIGS[1])
    states = config.sequence_batching.state
    if graph == "gqa":
        assert not states
        assert config.max_batch_size == 0
        dims = ports(config)
        assert dims["past_key_values.1.value"] == [-1, 1, -1, 16]  # padded for its kernel
        assert dims["present.2.key"] == [-1, 2, -1, 16]
        (total,) = (port for port in config.input if port.name == "total_sequence_length")
        assert list(total.dims) == [1]
        assert total.HasField("reshape")
        assert not total.reshape.shape
        _warm_up_runs(config, folder / "native" / "tiny_graph")
        return
    assert not config.model_warmup
    assert config.max_batch_size == 1
    assert [list(state.dims) for state in states] == [[n, -1, 8] for n in HEADS for _ in "kv"]
    assert [state.input_name for state in states][:2] == [f"past_key_values.0.{p}" for p in KV]
    assert [state.output_name for state in states][4:] == [f"present.2.{p}" for p in KV]
    assert all(state.initial_state[0].zero_data for state in states)
    assert ports(config) == {
        "input_ids": [-1],
        "attention_mask": [-1],
        "position_ids": [-1],
        "logits_positions": [-1],
        "logits": [-1, 97],
    }


KV = ("key", "value")
NUMPY = {"TYPE_INT64": np.int64, "TYPE_INT32": np.int32, "TYPE_FP32": np.float32}


def _warm_up_runs(config, model):
    """ONNX Runtime takes what the server would send, and gives finite logits."""
    session = onnxruntime.InferenceSession(model / "1" / config.default_model_filename)
    feeds = {}
    for name, tensor in config.model_warmup[0].inputs.items():
        kind = NUMPY[model_config_pb2.DataType.Name(tensor.data_type)]
        if tensor.zero_data:
            feeds[name] = np.zeros(tensor.dims, kind)
        else:
            feeds[name] = np.fromfile(model / "warmup" / tensor.input_data_file, kind)
        scalar = next(port for port in config.input if port.name == name).HasField("reshape")
        feeds[name] = feeds[name].reshape(() if scalar else tensor.dims)
    assert np.isfinite(session.run(["logits"], feeds)[0]).all()


@pytest.mark.parametrize("packaged", ["gqa uneven groups"], indirect=True)
def test_the_bare_graph_takes_a_cache_for_each_run_of_equal_query_groups(packaged):
    config = config_of(packaged[2] / CONFIGS[1])
    heads = {"0.0": 2, "0.1": 1, "1.0": 1, "1.1": 2, "2": 2}
    dims = ports(config)
    for name in ("past_key_values", "present"):
        assert {port: size for port, size in dims.items() if port.startswith(name)} == {
            f"{name}.{run}.{part}": [-1, count, -1, 16]
            for run, count in heads.items()
            for part in KV
        }
    _warm_up_runs(config, packaged[2] / "native" / "tiny_graph")


@pytest.mark.parametrize("packaged", ["standard", "standard uneven groups"], indirect=True)
def test_the_state_as_configured_gives_the_models_own_tokens(packaged):
    """Plays the server: initial states as configured, each output state the next input state."""
    _, artifact, folder = packaged
    model = folder / "native" / "tiny_graph"
    config = config_of(model / "config.pbtxt")
    session = onnxruntime.InferenceSession(model / "1" / config.default_model_filename)
    outputs = [output.name for output in session.get_outputs()]
    states = {
        state.input_name: np.zeros((1, *state.initial_state[0].dims), np.float32)
        for state in config.sequence_batching.state
    }
    prompt, count = np.array([[5, 9, 44, 3]]), 0
    with OnnxExporter().open(artifact, threads=1, capacity=32) as runner:
        tokens, expected = prompt, runner.prefill(prompt)
        for _ in range(8):
            n = tokens.shape[1]
            count += n
            got = session.run(
                None,
                {
                    "input_ids": tokens,
                    "position_ids": np.arange(count - n, count)[None],
                    "attention_mask": np.array([[0] + [1] * count]),
                    "logits_positions": np.array([[n - 1]]),
                    **states,
                },
            )
            named = dict(zip(outputs, got, strict=True))
            np.testing.assert_allclose(named["logits"][:, 0], expected, atol=1e-4)
            for state in config.sequence_batching.state:
                states[state.input_name] = named[state.output_name]
            tokens = expected.argmax(-1)[:, None]
            expected = runner.decode(tokens[:, 0])


def test_weights_are_on_the_disk_once(packaged):
    _, artifact, folder = packaged
    for name in artifact.files:
        places = [
            artifact.folder / name,
            folder / "repository" / "tiny" / "1" / "artifact" / name,
            folder / "native" / "tiny_graph" / "1" / name,
        ]
        assert len({place.stat().st_ino for place in places}) == 1


def test_the_code_is_the_very_code_that_was_measured_with(packaged):
    copied = packaged[2] / "repository" / "tiny" / "1" / "runtime"
    roots = [
        Path(module.__file__).parent.parent for module in (numprune_export, numprune_exporters)
    ]
    names = [
        path.relative_to(copied) for path in copied.rglob("*.py") if path.name != "__init__.py"
    ]
    assert {"decoder.py", "gqa_steps.py", "session.py", "artifact.py"} <= {
        name.name for name in names
    }
    for name in names:
        (source,) = {root / name for root in roots if (root / name).is_file()}
        assert (copied / name).read_bytes() == source.read_bytes()


ALONE = """
import sys
sys.path.insert(0, "runtime")
from pathlib import Path
from numprune_exporters.triton.served.opening import open_served
said = {"opener": "numprune_exporters.onnx.open:open_artifact", "capacity": "32",
        "threads": "1", "max_tokens": "4", "longest_prompt": "32"}
served = open_served(Path("."), {name: {"string_value": one} for name, one in said.items()})
served.runner.prefill(__import__("numpy").array([[1, 2, 3]]))
here = str(Path(".").resolve())
ours = [m for m in sys.modules if m.startswith("numprune")]
assert all(here in str(Path(sys.modules[m].__file__).resolve()) for m in ours), ours
print([m for m in ("torch", "pydantic", "transformers", "onnx", "onnx_ir") if m in sys.modules])
"""


@pytest.mark.parametrize(
    "packaged",
    ["gqa", "standard", "gqa uneven groups"],
    indirect=True,
)
def test_the_copied_code_runs_alone(packaged, tmp_path):
    """Without site-packages' own numprune_export, without torch, pydantic or onnx, and the runtime
    reports nothing: its telemetry would leave `.ses` in the temporary folder."""
    version = packaged[2] / "repository" / "tiny" / "1"
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=version, capture_output=True, text=True,
        env={**kept, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr
    assert not (tmp_path / ".ses").exists()


MODULE = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from numprune_export.recipe import Recipe
from numprune_export.core.errors import InputError
def later():
    from numprune_exporters.onnx import gqa_steps
"""


def test_the_closure_follows_imports_within_functions_and_not_those_for_types(
    monkeypatch, tmp_path
):
    (tmp_path / "made_here.py").write_text(MODULE)
    monkeypatch.setattr(
        numprune_exporters, "__path__", [*numprune_exporters.__path__, str(tmp_path)]
    )
    modules = closure(["numprune_exporters.made_here"])
    assert {"numprune_exporters.onnx.gqa_steps", "numprune_export.core.errors"} <= modules
    assert "numprune_export.recipe" not in modules


def test_the_papers_name_versions_and_say_what_no_server_has_run(packaged):
    graph, artifact, folder = packaged
    papers = [(folder / name / "README.md").read_text() for name in (".", "native")]
    assert all("`nvcr.io/nvidia/tritonserver:24.10-py3`" in paper for paper in papers)
    text = "".join(papers)
    assert "@" not in text.replace("nvcr.io", "")
    assert "No server has run this folder" in text
    assert artifact.facts["needs_onnxruntime"] in text
    assert ("implicit state of a sequence" in text) == (graph == "standard")
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"onnxruntime>={artifact.facts['needs_onnxruntime']}" in lines
    assert "numpy>=1.26,<2" in lines


def test_a_target_that_triton_cannot_serve_is_refused(packaged, tmp_path):
    other = Artifact("coreml", tmp_path, "model", {"model": ""}, {"max_positions": 8})
    with pytest.raises(UnsupportedModelError, match="`coreml`"):
        TritonPackager().package(
            other, builtin_dir() / "tiny-llama", tmp_path, TritonSettings(name="x")
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_graph_for_cuda_is_packaged_where_no_gpu_is(tmp_path, dtype):
    target = find("onnx-cuda")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "out").mkdir()
    settings = target.settings(dtype=dtype, graph="standard")
    decoder = FAMILIES["llama"].decoder(uneven())
    artifact = target.export(decoder, tmp_path / "artifact", settings)
    TritonPackager().package(
        artifact, builtin_dir() / "tiny-llama", tmp_path / "out", TritonSettings(name="tiny")
    )
    config = config_of(tmp_path / "out" / CONFIGS[0])
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert config.parameters["opener"].string_value.startswith("numprune_exporters.onnx_cuda.open")
    state = config_of(tmp_path / "out" / CONFIGS[1]).sequence_batching.state[0]
    kind = {"float16": "TYPE_FP16", "bfloat16": "TYPE_BF16"}[dtype]
    assert model_config_pb2.DataType.Name(state.data_type) == kind
    assert state.initial_state[0].data_type == state.data_type
    assert "onnxruntime-gpu>=" in (tmp_path / "out" / "requirements.txt").read_text()


def test_evidence_stays_behind(packaged, tmp_path):
    _, artifact, _ = packaged
    (artifact.folder / "proof").write_text("built from")
    files = {**artifact.files, "proof": sha256_of(artifact.folder / "proof")}
    with_proof = Artifact(
        artifact.target, artifact.folder, artifact.entry, files, artifact.facts, ("proof",)
    )
    TritonPackager().package(
        with_proof, builtin_dir() / "tiny-llama", tmp_path, TritonSettings(name="x")
    )
    assert not list(tmp_path.rglob("proof"))
    index = json.loads((tmp_path / "repository/x/1/artifact/artifact.json").read_text())
    assert index["files"] == dict(artifact.files)
    assert index["evidence"] == []
