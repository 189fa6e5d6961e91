"""The graph that becomes an engine: the fused one, or the one that takes its place."""

from collections import Counter

import onnx
import pytest
from one_layer import first_layer_of
from shaped import shaped
from tiny import uneven

from numprune_export.core.errors import MissingExtraError, UnsupportedModelError
from numprune_exporters.trt import toolkit
from numprune_exporters.trt.build import precision


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


def test_version_that_binds_no_dtypes_is_refused_for_all_but_fp32(built, monkeypatch):
    """TensorRT before 10 may compute an fp16 network in fp32, and the other way round."""
    monkeypatch.setattr(toolkit.Toolkit, "strongly_typed", False)
    with pytest.raises(MissingExtraError, match="cannot guarantee `float16`") as caught:
        built(shaped([(4, 2, 32)]))
    assert "TensorRT 10 or newer" in caught.value.hint
