"""Engines: limits follow their profiles, versions are pinned, the copied code needs no torch."""

import subprocess
import sys
from dataclasses import replace

import pytest
from google.protobuf import text_format
from tiny import uneven
from tritonclient.grpc import model_config_pb2

from numprune_export.core.errors import RecipeError, UnsupportedModelError
from numprune_export.export.targets import find
from numprune_export.models.families import FAMILIES
from numprune_export.recipe import builtin_dir
from numprune_exporters.triton import TritonPackager
from numprune_exporters.triton.settings import TritonSettings


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A real TensorRT-RTX engine, built without a GPU."""
    target = find("trt-rtx")
    settings = target.settings(
        dtype="float32",
        prefill={"batch": {"max": 3}, "length": {"max": 16}},
        decode={"batch": {"max": 3}, "capacity": {"min": 8, "max": 64}},
    )
    folder = tmp_path_factory.mktemp("engine")
    return target.export(FAMILIES["llama"].decoder(uneven()), folder, settings)


def packaged(artifact, folder, **settings):
    folder.mkdir(exist_ok=True)
    TritonPackager().package(
        artifact, builtin_dir() / "tiny-llama", folder, TritonSettings(name="tiny", **settings)
    )
    return folder


def config_of(path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def test_limits_are_those_of_the_profiles(engine, tmp_path):
    folder = packaged(engine, tmp_path / "out")
    config = config_of(folder / "repository" / "tiny" / "config.pbtxt")
    said = {name: parameter.string_value for name, parameter in config.parameters.items()}
    assert config.max_batch_size == 3
    assert (said["capacity"], said["longest_prompt"]) == ("64", "16")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert list(config.instance_group[0].gpus) == [0]
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 3]


@pytest.mark.parametrize("settings", [{"capacity": 65}, {"capacity": 7}, {"max_batch": 4}])
def test_more_than_the_profiles_hold_is_refused(engine, tmp_path, settings):
    (name,) = settings
    with pytest.raises(RecipeError, match=f"`{name}` cannot be"):
        packaged(engine, tmp_path / "out", **settings)


def test_the_versions_are_the_ones_it_was_built_with(engine, tmp_path):
    folder = packaged(engine, tmp_path / "out")
    version = engine.facts["toolkit"]["version"]
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert f"tensorrt-rtx-cu13=={version}" in lines
    text = (folder / "README.md").read_text()
    assert f"TensorRT-RTX {version}" in text
    assert "No server has run an engine of this kind yet" in text
    assert "--gpus all" in text


def test_only_the_engine_travels_and_triton_has_no_backend_for_it(engine, tmp_path):
    folder = packaged(engine, tmp_path / "out")
    artifact = folder / "repository" / "tiny" / "1" / "artifact"
    assert sorted(path.name for path in artifact.iterdir()) == ["artifact.json", "engine.plan"]
    assert not (folder / "native").exists()


def test_a_tensorrt_plan_gets_tritons_own_backend_with_both_profiles(engine, tmp_path):
    """The index of the same engine under the other target's name: what is written, not run."""
    folder = packaged(replace(engine, target="trt"), tmp_path / "out")
    config = config_of(folder / "native" / "tiny_graph" / "config.pbtxt")
    assert config.backend == "tensorrt"
    assert config.default_model_filename == "model.plan"
    assert list(config.instance_group[0].profile) == ["0", "1"]
    dims = {port.name: list(port.dims) for port in config.input}
    assert dims["past_key_values.0.key"] == [3, -1, -1, 8]
    assert dims["past_key_values.1.value"] == [1, -1, -1, 8]
    assert set(config.model_warmup[0].inputs) == set(dims)
    assert (folder / "native" / "tiny_graph" / "1" / "model.plan").is_file()
    version = engine.facts["toolkit"]["version"]
    assert f"exactly {version}" in (folder / "native" / "README.md").read_text()


def test_an_engine_without_weights_is_refused(engine, tmp_path):
    stripped = replace(engine, facts={**engine.facts, "stripped": True})
    with pytest.raises(UnsupportedModelError, match="has no weights"):
        packaged(stripped, tmp_path / "out")


ALONE = """
import sys
sys.path.insert(0, "runtime")
import numprune_exporters.trt.run.open as opening
assert "runtime" in opening.__file__
import numprune_exporters.triton.served.opening
print([m for m in ("torch", "pydantic", "transformers", "onnx", "onnx_ir") if m in sys.modules])
"""


def test_the_copied_code_of_engines_needs_no_torch(engine, tmp_path):
    version = packaged(engine, tmp_path / "out") / "repository" / "tiny" / "1"
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=version, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
