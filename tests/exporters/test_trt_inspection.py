"""Reading an engine's layers back. The reports here are written after the inspector's documented
form, not recorded: an engine can be loaded only on a GPU."""

import pytest

from numprune_export.core.errors import UnsupportedModelError
from numprune_exporters.trt.build.inspector import check_layers
from numprune_exporters.trt.messages import Message, not_the_graph, reason, shortened

TEXTS = {
    "float16": ("Half", "Row major linear FP16 format"),
    "bfloat16": ("BFloat16", "Row major linear BF16 format"),
    "float32": ("Float", "Row major linear FP32"),
}


def layer(name, *formats, metadata=""):
    ports = [
        {"Name": f"t{i}", "Format/Datatype": port_format} for i, port_format in enumerate(formats)
    ]
    return {
        "Name": name,
        "LayerType": "gemm",
        "Inputs": ports[1:],
        "Outputs": ports[:1],
        "Metadata": metadata,
    }


def report(*layers):
    return {"Layers": list(layers), "Bindings": ["input_ids"]}


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("dtype", TEXTS)
def test_engine_in_the_asked_dtype_passes(dtype, version):
    written = TEXTS[dtype][version]
    product = layer("fused_7", written, written, metadata="[ONNX Layer: layers.0/MatMul_24]")
    other = layer("cast", "Int64", "Float")
    assert check_layers(report(product, other, layer("layers.1/Attention_3", written)), dtype) == 2


@pytest.mark.parametrize("asked", TEXTS)
@pytest.mark.parametrize("made", TEXTS)
def test_engine_in_another_dtype_is_named_with_its_layer(asked, made):
    if asked == made:
        return
    wrong = layer("layers.1/MatMul_40", TEXTS[made][0], TEXTS[made][0])
    good = layer("layers.0/MatMul_24", TEXTS[asked][0])
    with pytest.raises(
        UnsupportedModelError, match=rf"`layers\.1/MatMul_40` computes in `.*{made}`"
    ):
        check_layers(report(good, wrong), asked)


def test_fp32_accumulators_beside_half_inputs_are_what_was_asked():
    mixed = layer("layers.0/MatMul_24", "Float", "Half", "Half")
    assert check_layers(report(mixed), "float16") == 1


def test_one_product_over_several_layers_needs_the_dtype_once():
    product = layer("layers.0/MatMul_24", "Half")
    cast = layer("cast after layers.0/MatMul_24", "Float")
    assert check_layers(report(cast, product), "float16") == 1
    with pytest.raises(
        UnsupportedModelError, match=r"node `layers\.1/MatMul_24` computes in `float32`"
    ):
        check_layers(report(product, layer("layers.1/MatMul_24", "Float")), "float16")


def test_quantized_layer_is_refused():
    wrong = layer("layers.0/Gemm_9", "Half", "Int8")
    with pytest.raises(UnsupportedModelError, match="`int8`"):
        check_layers(report(wrong), "float16")


@pytest.mark.parametrize("layers", [(), ("layers.0/MatMul_24",), (layer("reformat", "Half"),)])
def test_report_that_names_no_product_proves_nothing(layers):
    with pytest.raises(UnsupportedModelError, match="names no layer with a matmul"):
        check_layers(report(*layers), "float16")


def test_reason_is_the_first_error_and_not_a_warning():
    heard = [Message(False, "slow"), Message(True, "no kernel"), Message(True, "so no engine")]
    assert reason(heard) == "no kernel"
    assert reason(heard[:1]) == "slow"
    assert reason([]) == "the builder gave no reason"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check] No FP32"
            " here. In compileGraph at /_src/optimizer/x.cpp:9)",
            "Myelin: No FP32 here.",
        ),
        (
            "[api.cpp::check::9] Error Code 3: API Usage Error (Parameter check failed, condition: a"
            " (b))",
            "API Usage Error: Parameter check failed, condition: a (b)",
        ),
        ("plain words", "plain words"),
        ("x" * 1000, "x" * 400 + "…"),
    ],
)
def test_messages_are_one_readable_line(text, said):
    assert shortened(text) == said


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            "Cuda Runtime (cudaError 35: CUDA driver version is insufficient)",
            "DeviceError",
            "no GPU",
        ),
        ("CUDA initialization failure with error: 35", "DeviceError", "no GPU"),
        (
            "Cuda Runtime (cudaError 100: no CUDA-capable device is detected)",
            "DeviceError",
            "no GPU",
        ),
        ("Cuda Runtime (cudaError 2: out of memory)", "DeviceError", "out of memory"),
        ("OutOfMemory (Requested size was 17179869184 bytes.)", "DeviceError", "out of memory"),
        (
            "no tactics to implement the operation within workspace limit",
            "RecipeError",
            "workspace",
        ),
    ],
)
def test_failures_that_no_other_graph_would_cure(text, kind, words):
    error = not_the_graph([Message(True, text)], title="TensorRT 11", target="trt")
    assert type(error).__name__ == kind
    assert words in str(error)
    assert error.hint


def test_failure_of_a_graph_is_left_to_the_next_graph():
    heard = [Message(True, "Attention operation was not supported by a dedicated kernel.")]
    assert not_the_graph(heard, title="TensorRT 11", target="trt") is None
