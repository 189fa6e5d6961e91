"""What the parser makes of a graph: dtypes, bindings, and graphs that it refuses."""

import onnx
import onnx_ir
import pytest
from one_layer import DTYPES, GRAPHS, decoder_of
from onnx import TensorProto, helper
from shaped import shaped
from tiny import MODEL_TYPES, single_query_heads, uneven

from numprune_export.core.errors import UnsupportedModelError
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.trt.build import precision
from numprune_exporters.trt.build.network import Refused, parse


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_networks_compute_in_the_asked_dtype(parsed, model_type, graph, dtype):
    network = parsed(decoder_of(uneven(model_type)), graph, dtype)[0].network
    census = precision.check_network(network, dtype)
    name = precision.TYPES[dtype]
    assert set(census["MATRIX_MULTIPLY"]) == {name}
    assert set(census["REDUCE"]) == {"FLOAT"}  # the means of the norms
    if graph == "fused":
        assert census["ATTENTION_OUTPUT"] == {name: 3}
        assert census["ROTARY_EMBEDDING"] == {name: 6}
        assert "SOFTMAX" not in census
    else:
        assert census["SOFTMAX"] == {"FLOAT": 3}
        assert census["MATRIX_MULTIPLY"] == {name: 3 * 9 + 1}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_networks_of_uneven_groups_attend_once_for_each_run(parsed, graph, dtype):
    decoder = decoder_of(single_query_heads("qwen3"))
    runs = sum(len(layer.runs) for layer in decoder.layers)
    assert runs == 2 + 2 + 1
    census = precision.check_network(parsed(decoder, graph, dtype)[0].network, dtype)
    name = precision.TYPES[dtype]
    if graph == "fused":
        assert census["ATTENTION_OUTPUT"] == {name: runs}
        assert census["ROTARY_EMBEDDING"] == {name: 6}  # before the heads are told apart
    else:
        assert census["SOFTMAX"] == {"FLOAT": runs}
        assert census["MATRIX_MULTIPLY"] == {name: 3 * 5 + 4 * runs + 1}


def test_bindings_are_those_of_the_graph(parsed):
    (parsed_graph, inputs) = parsed(decoder_of(uneven("qwen3")), "decomposed", "bfloat16")
    network = parsed_graph.network
    ports = [network.get_input(index) for index in range(network.num_inputs)]
    assert [binding.name for binding in ports] == list(inputs)
    for port in ports:
        stated = inputs[port.name]
        assert tuple(port.shape) == tuple(-1 if isinstance(d, str) else d for d in stated["shape"])
        assert port.dtype.name == {"int64": "INT64", "bfloat16": "BF16"}[stated["type"]]
    widths = [port.shape[0] for port in ports if port.name.endswith(".key")]
    assert widths == [3, 1, 2]  # uneven, layer by layer
    outputs = {network.get_output(i).name: network.get_output(i) for i in range(2)}
    assert outputs["logits"].dtype.name == "FLOAT"
    assert tuple(outputs["logits"].shape) == (-1, -1, 97)
    assert tuple(outputs["new_key_values"].shape) == (12, -1, -1, 8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_network_of_another_dtype_is_refused_by_layer(parsed, dtype):
    network = parsed(decoder_of(uneven("llama")), "fused", "float32")[0].network
    with pytest.raises(
        UnsupportedModelError, match=r"`layers\.0/.*`FLOAT`, not the requested"
    ) as caught:
        precision.check_network(network, dtype)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "given", "due"),
    [
        ("logits", "HALF", "FLOAT"),
        ("new_key_values", "FLOAT", "HALF"),
        ("past_key_values.0.key", "FLOAT", "HALF"),
        ("input_ids", "INT32", "INT64"),
    ],
)
def test_port_of_another_type_is_refused_by_name(kit, name, given, due):
    builder = kit.builder()
    network = kit.network(builder)
    kinds = kit.module.DataType.__members__
    port = network.add_input(name, kinds[given], (1,))
    made = network.add_identity(port).get_output(0)
    made.name = "logits"
    network.mark_output(made)
    with pytest.raises(UnsupportedModelError, match=f"`{name}` has the type `{given}`.*`{due}`"):
        precision.check_network(network, "float16")
    del network


def write_node(path, operator, domain="", **attributes):
    node = helper.make_node(operator, ["x"], ["y"], name="odd", domain=domain, **attributes)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    opsets = [helper.make_opsetid("", 20)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("operator", "domain", "attributes"),
    [
        ("GroupQueryAttention", "com.microsoft", {"num_heads": 1, "kv_num_heads": 1}),
        ("NoSuchOperator", "", {}),
    ],
)
def test_unknown_operators_are_refused_with_their_node(kit, tmp_path, operator, domain, attributes):
    path = write_node(tmp_path / "m.onnx", operator, domain, **attributes)
    with pytest.raises(Refused, match=rf"operator `{operator}` at `odd`") as caught:
        parse(kit, path)
    assert caught.value.step == "parser"


def test_file_that_is_no_graph_is_refused(kit, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no graph" * 100)
    with pytest.raises(Refused):
        parse(kit, tmp_path / "m.onnx")


def test_graph_without_its_weights_is_refused(kit, tmp_path):
    model = slot_graph.build(shaped([(2, 1, 16)]), {}, "float16", "fused")
    onnx_ir.save(model, tmp_path / "m.onnx", external_data="w.data")
    (tmp_path / "w.data").unlink()
    with pytest.raises(Refused) as caught:
        parse(kit, tmp_path / "m.onnx")
    assert caught.value.step == "parser"
