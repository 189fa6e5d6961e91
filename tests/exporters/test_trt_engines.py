"""Real engines, built by TensorRT-RTX with no GPU: what becomes one."""

import pytest
from one_layer import DTYPES, GRAPHS, decoder_of, first_layer_of
from shaped import SMOLLM2, SMOLLM2_DENSE, SMOLLM2_PRUNED, block_bytes, shaped
from tiny import MODEL_TYPES, single_query_heads, tiny, uneven

# Every family in both graphs, and every dtype in both graphs: a dtype's kernels are no family's own.
COMBINATIONS = [(model_type, graph, DTYPES[0]) for model_type in MODEL_TYPES for graph in GRAPHS]
COMBINATIONS += [(MODEL_TYPES[-1], graph, dtype) for graph in GRAPHS for dtype in DTYPES[1:]]


@pytest.mark.parametrize(("model_type", "graph", "dtype"), COMBINATIONS)
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


def test_pruned_engine_is_smaller_by_what_was_pruned(built):
    shape = {"hidden": 256, "head_dim": 64}
    dense = shaped([(8, 4, 2048)] * 3, **shape)
    pruned = shaped([(4, 2, 1024), (2, 1, 512), (6, 3, 1024)], **shape)
    sizes = [
        built(decoder, name, dtype="float32").size_bytes
        for decoder, name in ((dense, "d"), (pruned, "p"))
    ]
    less = block_bytes(dense, 4) - block_bytes(pruned, 4)
    assert sizes[0] - sizes[1] == pytest.approx(less, rel=0.25)


@pytest.mark.slow
def test_smollm2_shaped_pair_for_two_compute_capabilities(built):
    targets = {"compute_capabilities": ["sm80", "sm86"]}
    dense, pruned = shaped(SMOLLM2_DENSE, **SMOLLM2), shaped(SMOLLM2_PRUNED, **SMOLLM2)
    made = [
        built(decoder, name, **targets) for decoder, name in ((dense, "dense"), (pruned, "pruned"))
    ]
    less = block_bytes(dense) - block_bytes(pruned)
    assert made[0].size_bytes - made[1].size_bytes == pytest.approx(less, rel=0.1)
    weights = block_bytes(dense) + 2 * SMOLLM2["hidden"] * SMOLLM2["vocabulary"]
    assert weights < made[0].size_bytes < 1.2 * weights  # the tied vocabulary is there once
    for artifact in made:
        assert artifact.facts["graph"] == "fused"
        assert artifact.facts["built_for"] == targets
        assert artifact.facts["profiles"]["decode"]["capacity"] == [1, 1024, 8192]
