"""Engines that cannot be opened, and why: real TensorRT-RTX engines, on a machine without a GPU too."""

import json
import shutil
from dataclasses import replace

import onnx_ir
import pytest
from tiny import uneven

from numprune_export.core.errors import DeviceError, InputError
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.models.families import FAMILIES
from numprune_exporters.cuda.device import Gpu, why_none
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.trt import toolkit
from numprune_exporters.trt.run.gpu_match import check_gpu
from numprune_exporters.trt.run.open import deserialize, open_engine
from numprune_exporters.trt.run.plan_header import read_header
from numprune_exporters.trt.run.ports import Port, read_ports
from numprune_exporters.trt.settings import TrtRtxSettings
from numprune_exporters.trt.target import TrtRtxExporter

ADA = Gpu("NVIDIA L4", "8.9", 24 << 30, "13.0")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    decoder = FAMILIES["llama"].decoder(uneven("llama", head_dim=16))
    settings = TrtRtxSettings(compute_capabilities=("sm86",), graph="decomposed")
    return TrtRtxExporter().export(decoder, folder, settings)


@pytest.fixture
def artifact(built, tmp_path):
    """The artifact in a folder that a test may damage."""
    shutil.copytree(built.folder, tmp_path / "copy")
    return Artifact.load(tmp_path / "copy")


def opened(artifact, capacity=16):
    return open_engine(artifact, threads=1, capacity=capacity)


def resigned(artifact, **facts):
    """As whoever changed its files would leave the index."""
    digests = {name: sha256_of(artifact.folder / name) for name in artifact.files}
    return replace(artifact, files=digests, facts=artifact.facts | facts)


def overwrite(artifact, at, content):
    with (artifact.folder / artifact.entry).open("r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.mark.skipif(why_none() is None, reason="this machine has a GPU")
def test_without_a_gpu_it_is_said_in_one_line(artifact):
    with pytest.raises(DeviceError, match=r"^no CUDA device$") as caught:
        opened(artifact)
    assert caught.value.exit_code == 8


def test_header_names_the_library_and_its_version(artifact):
    header = read_header(artifact.folder / artifact.entry)
    assert (header.module, header.text) == ("tensorrt_rtx", toolkit.load("trt-rtx").version)


def test_altered_engine_is_refused(artifact):
    overwrite(artifact, 5000, b"\xff" * 8)
    with pytest.raises(InputError, match=r"engine\.plan` is not the file that was exported"):
        opened(artifact)


def test_engine_of_another_version_is_refused(artifact):
    overwrite(artifact, 24, bytes([1, 2, 0, 54]))
    with pytest.raises(InputError, match=r"built by `tensorrt_rtx` 1\.2\.0\.54, .* is installed"):
        opened(resigned(artifact))


def test_engine_of_the_other_library_is_refused(artifact):
    overwrite(artifact, 0, b"ftrt")
    overwrite(artifact, 24, bytes([10, 13, 3, 9]))
    with pytest.raises(
        InputError, match=r"built by `tensorrt` 10\.13\.3\.9, `tensorrt_rtx`"
    ) as caught:
        opened(resigned(artifact))
    assert "tensorrt==10.13.3.9" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"vtrt", b"x" * 5000, b"vtrt\1\0\0\0" + b"\0" * 100])
def test_what_is_no_engine_is_refused(artifact, content):
    (artifact.folder / artifact.entry).write_bytes(content)
    with pytest.raises(InputError, match="does not start as a TensorRT engine does"):
        opened(resigned(artifact))


def test_cut_short_engine_is_refused_by_tensorrt_itself(artifact):
    plan = artifact.folder / artifact.entry
    plan.write_bytes(plan.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"TensorRT-RTX .* cannot read `.*engine\.plan`: .*size"):
        deserialize(resigned(artifact), plan, toolkit.load("trt-rtx"), ADA)


def test_missing_engine_is_refused(artifact):
    (artifact.folder / artifact.entry).unlink()
    with pytest.raises(InputError, match="is missing"):
        opened(artifact)


@pytest.mark.parametrize("capacity", [0, 129])
def test_capacity_outside_the_profile_is_refused_before_anything_is_loaded(artifact, capacity):
    with pytest.raises(InputError, match=rf"capacity `{capacity}` is outside the 1 to 128"):
        opened(artifact, capacity)


def test_stripped_engine_without_its_graph_is_refused(artifact):
    files = {name: digest for name, digest in artifact.files.items() if "graph" not in name}
    bare = replace(artifact, files=files, facts=artifact.facts | {"stripped": True})
    with pytest.raises(InputError, match="has no weights, and the graph"):
        opened(bare)


@pytest.mark.parametrize(
    ("facts", "fits"),
    [
        ({"built_for": {"compute_capabilities": ["portable"]}}, True),
        ({"built_for": {"compute_capabilities": ["sm86", "sm89"]}}, True),
        ({"built_for": {"compute_capabilities": ["sm86"]}}, False),
        ({"built_for": {"gpu": "NVIDIA L40S", "compute_capability": "8.9"}}, True),
        ({"built_for": {"gpu": "NVIDIA H100", "compute_capability": "9.0"}}, False),
        (
            {
                "built_for": {"gpu": "NVIDIA A100", "compute_capability": "8.0"},
                "hardware_compatibility": "ampere_plus",
            },
            True,
        ),
    ],
)
def test_engine_for_another_gpu_is_refused(facts, fits):
    if fits:
        check_gpu(facts, ADA)
    else:
        with pytest.raises(
            DeviceError, match=r"built for `.*`, the GPU here is `NVIDIA L4 \(8\.9\)`"
        ):
            check_gpu(facts, ADA)


def test_ampere_plus_is_not_for_turing():
    facts = {
        "built_for": {"gpu": "NVIDIA A100", "compute_capability": "8.0"},
        "hardware_compatibility": "ampere_plus",
    }
    with pytest.raises(DeviceError, match="built for `NVIDIA A100"):
        check_gpu(facts, replace(ADA, compute_capability="7.5"))


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_widths_come_from_the_tensors_that_tensorrt_sees(tmp_path, dtype, size):
    model = uneven("qwen3", head_dim=24)
    path = tmp_path / "m.onnx"
    graph = slot_graph.build(FAMILIES["qwen3"].decoder(model), {}, dtype)
    onnx_ir.save(graph, path, external_data="w")
    ports = read_ports(network_tensors(path))
    assert ports.caches[:3] == (
        "past_key_values.0.key",
        "past_key_values.0.value",
        "past_key_values.1.key",
    )
    assert ports.heads == (3, 3, 1, 1, 2, 2)
    assert (ports.head_dim, ports.token_bytes, ports.vocabulary) == (24, 24 * size, 97)


def network_tensors(path):
    kit = toolkit.load("trt-rtx")
    builder = kit.builder()
    network = kit.network(builder)
    parser = kit.parser(network)
    assert parser.parse_from_file(str(path))
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return {
        tensor.name: Port(tuple(tensor.shape), tensor.dtype.name) for tensor in (*inputs, *outputs)
    }


def test_another_graph_than_ours_is_refused():
    tensors = {"x": Port((1, 3), "FLOAT"), "y": Port((1, 3), "FLOAT")}
    with pytest.raises(InputError, match="`x, y` are not a slot graph's"):
        read_ports(tensors)


def test_the_index_says_what_opening_relies_on(built):
    facts = json.loads((built.folder / Artifact.INDEX).read_text())["facts"]
    assert facts["built_for"] == {"compute_capabilities": ["sm86"]}
    assert facts["stripped"] is False
    assert facts["profiles"]["decode"]["capacity"] == [1, 128, 128]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "IExecutionContext",
            "execute_async_v3 set_input_shape set_tensor_address set_device_memory "
            "set_optimization_profile_async is_stream_capturable",
        ),
        (
            "ICudaEngine",
            "create_execution_context get_device_memory_size_for_profile_v2 get_engine_stat "
            "get_tensor_dtype get_tensor_name get_tensor_shape num_io_tensors "
            "num_optimization_profiles",
        ),
        ("Runtime", "deserialize_cuda_engine engine_host_code_allowed"),
        ("Refitter", "refit_cuda_engine"),
        ("OnnxParserRefitter", "refit_from_file"),
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        ("EngineStat", "TOTAL_WEIGHTS_SIZE"),
    ],
)
def test_what_only_runs_on_a_gpu_is_named_as_tensorrt_names_it(kind, names):
    assert set(names.split()) <= set(dir(getattr(toolkit.load("trt-rtx").module, kind)))
