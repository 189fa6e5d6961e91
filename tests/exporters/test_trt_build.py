"""Real engines, built by TensorRT-RTX with no GPU."""

from collections import Counter
from dataclasses import replace

import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper
from shaped import SMOLLM2, SMOLLM2_DENSE, SMOLLM2_PRUNED, block_bytes, shaped
from tiny import MODEL_TYPES, single_query_heads, tiny, uneven

from numprune_export.artifact import Artifact, sha256_of
from numprune_export.errors import (
    DeviceError,
    MissingExtraError,
    OutputError,
    RecipeError,
    UnsupportedModelError,
)
from numprune_export.families import FAMILIES
from numprune_exporters import graph_file, slot_graph
from numprune_exporters.cuda.device import why_none
from numprune_exporters.trt import precision, toolkit
from numprune_exporters.trt.build import build, configuration, optimization_profile
from numprune_exporters.trt.network import Refused, parse
from numprune_exporters.trt.settings import TrtRtxSettings, TrtSettings, profiles
from numprune_exporters.trt.target import TrtRtxExporter

GRAPHS = ("fused", "decomposed")
DTYPES = ("float16", "bfloat16", "float32")


@pytest.fixture(scope="module")
def kit():
    return toolkit.load("trt-rtx")


def decoder_of(model):
    return FAMILIES[model.config.model_type].decoder(model)


def first_layer_of(model):
    """Enough for a builder to meet every part, in a third of the time."""
    decoder = decoder_of(model)
    return replace(decoder, layers=decoder.layers[:1])


@pytest.fixture
def built(tmp_path):
    """Export a decoder with these settings."""

    def run(decoder, name="artifact", **content):
        folder = tmp_path / name
        folder.mkdir()
        settings = TrtRtxSettings.model_validate(content)
        return TrtRtxExporter().export(decoder, folder, settings)

    return run


@pytest.fixture
def parsed(kit, tmp_path):
    """A decoder's network, and its graph's inputs."""

    def run(decoder, graph="fused", dtype="float16"):
        written = graph_file.write(slot_graph.build(decoder, {}, dtype, graph), tmp_path)
        return parse(kit, tmp_path / graph_file.ENTRY), written["inputs"]

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_family_becomes_an_engine(built, model_type, graph, dtype):
    artifact = built(first_layer_of(uneven(model_type)), graph=graph, dtype=dtype)
    assert artifact.facts["graph_choice"] == [{"graph": graph, "outcome": "built", "reason": ""}]
    assert artifact.facts["dtype"] == dtype
    assert artifact.facts["precision"]["checked"] == "network"
    assert (artifact.folder / artifact.entry).read_bytes()[1:4] == b"trt"
    assert artifact.size_bytes > 1e6


@pytest.mark.parametrize("graph", GRAPHS)
def test_layers_of_uneven_widths_become_an_engine(built, graph):
    artifact = built(decoder_of(uneven("llama")), graph=graph)
    assert artifact.facts["graph"] == graph
    assert artifact.facts["inputs"]["past_key_values.1.key"]["shape"][0] == 1
    assert artifact.facts["inputs"]["past_key_values.2.key"]["shape"][0] == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_kv_heads_with_different_numbers_of_query_heads_become_an_engine(built, graph, dtype):
    artifact = built(first_layer_of(single_query_heads()), graph=graph, dtype=dtype)
    assert artifact.facts["graph_choice"] == [{"graph": graph, "outcome": "built", "reason": ""}]
    assert artifact.facts["precision"]["checked"] == "network"
    caches = [name for name in artifact.facts["inputs"] if name.startswith("past")]
    assert caches == ["past_key_values.0.key", "past_key_values.0.value"]
    assert artifact.facts["inputs"]["past_key_values.0.key"]["shape"][0] == 3


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
    (found, inputs) = parsed(decoder_of(uneven("qwen3")), "decomposed", "bfloat16")
    network = found.network
    ports = [network.get_input(index) for index in range(network.num_inputs)]
    assert [one.name for one in ports] == list(inputs)
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
        UnsupportedModelError, match=r"`layers\.0/.*`FLOAT`, asked for was"
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


@pytest.mark.parametrize(
    "variant",
    [
        {"num_key_value_heads": 8},
        {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": True, "hidden_act": "gelu"},
    ],
    ids=str,
)
def test_variants_of_llama_become_engines(built, variant):
    assert built(first_layer_of(tiny("llama", **variant))).facts["graph"] == "fused"


@pytest.mark.parametrize("head_dim", [16, 24, 64, 128])
def test_head_widths_become_engines(built, head_dim):
    assert built(shaped([(4, 2, 32)], head_dim=head_dim)).facts["graph"] == "fused"


@pytest.mark.parametrize("graph", GRAPHS)
def test_sliding_windows_become_engines(built, graph):
    model = uneven("qwen3", sliding_window=4, use_sliding_window=True, max_window_layers=1)
    assert built(first_layer_of(model), graph=graph).facts["graph"] == graph


def test_profiles_reach_the_builder(kit, parsed):
    decoder = shaped([(4, 2, 32)])
    found, inputs = parsed(decoder)
    settings = TrtRtxSettings.model_validate(
        {"prefill": {"batch": {"opt": 2, "max": 8}}, "decode": {"capacity": {"min": 32}}}
    )
    shapes = profiles(decoder, settings, "trt-rtx")
    prefill, decode = (
        optimization_profile(found.builder, spans, inputs) for spans in shapes.dimensions
    )
    read = {name: [tuple(one) for one in prefill.get_shape(name)] for name in inputs}
    assert read["input_ids"] == [(1, 1), (2, 128), (8, 128)]
    assert read["logits_positions"] == [(1, 1), (2, 1), (8, 128)]
    assert read["past_key_values.0.key"] == [(2, 1, 1, 16), (2, 2, 1, 16), (2, 8, 1, 16)]
    read = {name: [tuple(one) for one in decode.get_shape(name)] for name in inputs}
    assert read["position_ids"] == [(1, 1), (2, 1), (8, 1)]
    assert read["slot_positions"] == [(1, 32), (2, 128), (8, 128)]
    config = configuration(kit, found, settings, shapes, inputs)
    assert config.num_optimization_profiles == 2


def test_inconsistent_profiles_are_refused_by_the_builder(kit, parsed, tmp_path):
    """Every input has its own shapes: the builder must see that they belong together."""
    decoder = shaped([(4, 2, 32)])
    found, inputs = parsed(decoder)
    settings = TrtRtxSettings()
    shapes = profiles(decoder, settings, "trt-rtx")
    torn = inputs | {"position_ids": {"type": "int64", "shape": ["batch", 7]}}
    with pytest.raises(Refused) as caught:
        build(kit, found, settings, shapes, torn, tmp_path / "engine.plan", None)
    assert caught.value.step == "builder"
    assert not (tmp_path / "engine.plan").exists()


def test_settings_reach_the_builder(kit, parsed):
    decoder = shaped([(4, 2, 32)])
    found, inputs = parsed(decoder)
    flag = kit.module.BuilderFlag

    def configured(settings):
        shapes = profiles(decoder, settings, "trt-rtx")
        return configuration(kit, found, settings, shapes, inputs)

    plain = configured(TrtRtxSettings())
    for name in ("TF32", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"):
        assert not plain.get_flag(flag.__members__[name])
    assert plain.profiling_verbosity == kit.module.ProfilingVerbosity.DETAILED
    assert plain.num_compute_capabilities == 0
    aimed = configured(TrtRtxSettings(compute_capabilities=("sm80", "sm120"), workspace_mib=77))
    known = kit.module.ComputeCapability
    found_for = [aimed.get_compute_capability(index) for index in range(2)]
    assert found_for == [known.SM80, known.SM120]
    assert aimed.get_memory_pool_limit(kit.module.MemoryPoolType.WORKSPACE) == 77 << 20
    tuned = configured(
        TrtSettings(
            tf32=True, refittable=True, stripped=True, version_compatible=True,
            optimization_level=5, hardware_compatibility="ampere_plus",
        )
    )  # fmt: skip
    for name in ("TF32", "REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE"):
        assert tuned.get_flag(flag.__members__[name])
    assert tuned.builder_optimization_level == 5
    # TensorRT-RTX takes the level and ignores it, so that only its names can be checked here.
    levels = kit.module.HardwareCompatibilityLevel.__members__
    assert {"AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"} < set(levels)


def test_graph_that_cannot_be_built_is_replaced_and_said_why(built, monkeypatch):
    """Without leave to take it apart, this builder has no kernel for an attention of its own."""
    monkeypatch.setattr(toolkit.Toolkit, "allow_decomposition", lambda self, network: 0)
    artifact = built(first_layer_of(uneven("llama")))
    refused, taken = artifact.facts["graph_choice"]
    assert (refused["graph"], refused["outcome"]) == ("fused", "refused by the builder")
    assert "Attention operation was not supported" in refused["reason"]
    assert taken == {"graph": "decomposed", "outcome": "built", "reason": ""}
    assert artifact.facts["graph"] == "decomposed"
    graph = onnx.load(artifact.folder / "graph/model.onnx", load_external_data=False)
    assert "Attention" not in Counter(node.op_type for node in graph.graph.node)


def test_graph_of_other_dtypes_is_replaced_too(built, monkeypatch):
    """As if this parser made of an Attention operator what is no fp16 attention."""
    monkeypatch.setattr(precision, "_FP32", precision._FP32 | {"ROTARY_EMBEDDING"})
    refused, taken = built(first_layer_of(uneven("llama"))).facts["graph_choice"]
    assert refused["outcome"] == "refused by the check of dtypes"
    assert "(ROTARY_EMBEDDING) has the type `HALF`" in refused["reason"]
    assert taken["graph"] == "decomposed"


def test_forced_graph_is_not_replaced(built, monkeypatch, tmp_path):
    monkeypatch.setattr(toolkit.Toolkit, "allow_decomposition", lambda self, network: 0)
    with pytest.raises(UnsupportedModelError, match=r"graph `fused`: .*Attention operation"):
        built(first_layer_of(uneven("llama")), graph="fused")
    assert not list(tmp_path.rglob("*.plan"))


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [("float32", "FP32 GEMM is not supported"), ("bfloat16", "HW-specific datatypes: b16")],
)
def test_turing_is_refused_in_the_dtypes_it_lacks(built, dtype, reason):
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        built(first_layer_of(uneven("llama")), dtype=dtype, compute_capabilities=["sm75"])
    assert f"`{dtype}`" in str(caught.value)
    assert "graph `fused`" in str(caught.value)
    assert "graph `decomposed`" in str(caught.value)


def test_turing_is_built_in_fp16(built):
    artifact = built(first_layer_of(uneven("llama")), compute_capabilities=["sm75"])
    assert artifact.facts["built_for"] == {"compute_capabilities": ["sm75"]}


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


def test_too_small_a_workspace_is_a_recipe_error(built):
    with pytest.raises(RecipeError, match=r"`targets\.trt-rtx\.workspace_mib` is too small"):
        built(first_layer_of(uneven("llama")), workspace_mib=1)


needs_no_gpu = pytest.mark.skipif(why_none() is None, reason="a GPU is here: nothing is refused")


@needs_no_gpu
@pytest.mark.parametrize("setting", ["refittable", "stripped"])
def test_refit_is_compiled_on_a_gpu(built, setting):
    with pytest.raises(DeviceError, match="refittable and stripped engines on a GPU: no CUDA"):
        built(first_layer_of(uneven("llama")), **{setting: True})


def test_full_disk_leaves_no_half_engine(kit, parsed, tmp_path):
    decoder = shaped([(4, 2, 32)])
    found, inputs = parsed(decoder)
    settings = TrtRtxSettings()
    full = tmp_path / "engine.plan"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        build(kit, found, settings, profiles(decoder, settings, "trt-rtx"), inputs, full, None)
    assert not full.is_symlink()


def test_several_builds_are_one_artifact(built):
    artifact = built(shaped([(4, 2, 32)]), repeat_builds=2)
    assert artifact.entry == "engine.plan"
    assert artifact.facts["builds"] == ["engine.plan", "engine.1.plan"]
    assert len(artifact.facts["build_seconds"]) == 2
    assert "engine.1.plan" in artifact.evidence
    assert artifact.size_bytes == (artifact.folder / "engine.plan").stat().st_size


def test_graph_is_evidence_and_can_be_left_out(built):
    kept, left = (
        built(shaped([(4, 2, 32)]), "kept"),
        built(shaped([(4, 2, 32)]), "left", keep_graph=False),
    )
    graph = {"graph/model.onnx", "graph/model.onnx.data"}
    assert set(kept.files) == {"engine.plan", *graph}
    assert set(kept.evidence) == graph
    assert set(left.files) == {"engine.plan"}
    assert not (left.folder / "graph").exists()


def test_artifact_states_how_it_was_made(built):
    artifact = built(decoder_of(uneven("llama")), compute_capabilities=["sm86"])
    assert Artifact.load(artifact.folder) == artifact
    for name, digest in artifact.files.items():
        assert sha256_of(artifact.folder / name) == digest
    facts = artifact.facts
    assert facts["runtime"] == "TensorRT-RTX 1.7.1.116"
    assert facts["toolkit"] == {"module": "tensorrt_rtx", "version": "1.7.1.116"}
    assert facts["built_for"] == {"compute_capabilities": ["sm86"]}
    assert facts["profiles"]["prefill"]["length"] == [1, 128, 128]
    assert facts["opsets"] == {"ai.onnx": 23}
    assert not facts["stripped"]
    assert facts["precision"]["network"]["ATTENTION_OUTPUT"] == {"HALF": 3}


def test_pruned_engine_is_smaller_by_what_was_pruned(built):
    shape = {"hidden": 256, "head_dim": 64}
    dense = shaped([(8, 4, 2048)] * 3, **shape)
    pruned = shaped([(4, 2, 1024), (2, 1, 512), (6, 3, 1024)], **shape)
    sizes = [
        built(one, name, dtype="float32").size_bytes for one, name in ((dense, "d"), (pruned, "p"))
    ]
    less = block_bytes(dense, 4) - block_bytes(pruned, 4)
    assert sizes[0] - sizes[1] == pytest.approx(less, rel=0.25)


@pytest.mark.slow
def test_smollm2_shaped_pair_for_two_compute_capabilities(built):
    targets = {"compute_capabilities": ["sm80", "sm86"]}
    dense, pruned = shaped(SMOLLM2_DENSE, **SMOLLM2), shaped(SMOLLM2_PRUNED, **SMOLLM2)
    made = [built(one, name, **targets) for one, name in ((dense, "dense"), (pruned, "pruned"))]
    less = block_bytes(dense) - block_bytes(pruned)
    assert made[0].size_bytes - made[1].size_bytes == pytest.approx(less, rel=0.05)
    weights = block_bytes(dense) + 2 * SMOLLM2["hidden"] * SMOLLM2["vocabulary"]
    assert weights < made[0].size_bytes < 1.2 * weights  # the tied vocabulary is there once
    for one in made:
        assert one.facts["graph"] == "fused"
        assert one.facts["built_for"] == targets
        assert one.facts["profiles"]["decode"]["capacity"] == [1, 1024, 8192]


def test_version_that_binds_no_dtypes_is_refused_for_all_but_fp32(built, monkeypatch):
    """TensorRT before 10 may compute an fp16 network in fp32, and the other way round."""
    monkeypatch.setattr(toolkit.Toolkit, "strongly_typed", False)
    with pytest.raises(MissingExtraError, match="so `float16` is not sure") as caught:
        built(shaped([(4, 2, 32)]))
    assert "TensorRT 10 or newer" in caught.value.hint
