"""The `onnx-cuda` target as far as a machine without a GPU shows it: the graph, and what is refused."""

import onnx
import onnxruntime
import pytest
from runner_parity import largest_error
from tiny import tiny, uneven

from numprune_export.core.errors import (
    DeviceError,
    MissingExtraError,
    RecipeError,
    UnsupportedModelError,
)
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx import open as onnx_open
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings
from numprune_exporters.onnx_cuda import session as cuda_session
from numprune_exporters.onnx_cuda.target import OnnxCudaExporter, OnnxCudaSettings

with_cpu_package = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime has CUDA",
)


@pytest.fixture
def export(tmp_path):
    def run(model, **settings):
        decoder = FAMILIES[model.config.model_type].decoder(model)
        return OnnxCudaExporter().export(decoder, tmp_path, OnnxCudaSettings(**settings))

    return run


@pytest.mark.parametrize(
    ("settings", "graph", "dtype"),
    [
        ({}, "gqa", "float16"),
        ({"dtype": "bfloat16"}, "gqa", "bfloat16"),
        ({"dtype": "float32"}, "standard", "float32"),  # CUDA has no fp32 GroupQueryAttention
        ({"graph": "standard"}, "standard", "float16"),
    ],
)
def test_graph_and_dtype_are_what_cuda_has_kernels_for(export, settings, graph, dtype):
    artifact = export(uneven("llama"), **settings)
    assert artifact.target == "onnx-cuda"
    assert (artifact.facts["graph"], artifact.facts["dtype"]) == (graph, dtype)
    assert artifact.facts["needs_onnxruntime"] == "1.24"
    nodes = onnx.load(artifact.folder / "model.onnx", load_external_data=False).graph.node
    fused = sum(node.op_type == "GroupQueryAttention" for node in nodes)
    assert fused == (3 if graph == "gqa" else 0)
    caches = {port["type"] for name, port in artifact.facts["inputs"].items() if "past" in name}
    assert caches == {dtype.replace("float32", "float")}


def test_fp32_is_not_asked_of_a_kernel_that_has_none(export):
    with pytest.raises(RecipeError, match="`gqa` has no kernel in float32"):
        export(uneven("llama"), dtype="float32", graph="gqa")


def test_heads_wider_than_the_kernel_takes_are_refused(export):
    model = tiny("llama", head_dim=272, num_attention_heads=2, num_key_value_heads=1)
    with pytest.raises(UnsupportedModelError, match="heads are `272` wide") as caught:
        export(model)
    assert "standard" in caught.value.hint
    assert export(model, graph="standard").facts["graph"] == "standard"


def test_settings_of_another_target_are_refused(tmp_path):
    decoder = FAMILIES["llama"].decoder(uneven("llama"))
    with pytest.raises(
        RecipeError, match="`OnnxSettings` are not settings of the target `onnx-cuda`"
    ):
        OnnxCudaExporter().export(decoder, tmp_path, OnnxSettings())


@with_cpu_package
def test_the_package_without_cuda_is_named_with_the_line_that_switches():
    availability = OnnxCudaExporter().availability()
    assert availability.ready
    assert "has no CUDA" in availability.cannot_run
    assert availability.install.startswith(
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
    )


@with_cpu_package
def test_opening_with_the_package_without_cuda_is_refused(export):
    artifact = export(uneven("llama"))
    with pytest.raises(MissingExtraError, match=r"`onnxruntime-gpu`.*has no CUDA") as caught:
        OnnxCudaExporter().open(artifact, threads=1, capacity=8)
    assert caught.value.hint == cuda_session.INSTALL


def test_graph_of_nothing_is_a_graph_that_runs():
    onnx.checker.check_model(onnx.load_from_string(cuda_session._ONE_NODE), full_check=True)
    session = onnxruntime.InferenceSession(
        cuda_session._ONE_NODE, providers=["CPUExecutionProvider"]
    )
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("settings", "astray"), [({}, "GroupQueryAttention"), ({"graph": "standard"}, "Softmax")]
)
def test_operators_on_the_host_are_refused_but_for_shapes(export, settings, astray):
    artifact = export(uneven("llama"), **settings)
    path = artifact.folder / artifact.entry
    options = cuda_session._options(onnxruntime, 1)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=f"no CUDA kernels for `.*{astray}") as caught:
        cuda_session.check_placement(session, path)
    names = str(caught.value).split("`")[1].split(", ")
    assert "MatMul" in names
    assert not {"Shape", "Concat", "Range"} & set(names)


@pytest.mark.parametrize("graph", ["gqa", "standard"])
def test_prompt_wider_than_its_longest_row(tmp_path, graph):
    model = uneven("llama")
    decoder = FAMILIES["llama"].decoder(model)
    artifact = OnnxExporter().export(decoder, tmp_path, OnnxSettings(graph=graph))
    with onnx_open.open_artifact(artifact, threads=1, capacity=24) as runner:
        assert largest_error(runner, model) < 1e-4
