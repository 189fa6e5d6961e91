"""A saved model comes back as the same network, by our loader and by transformers alone."""

import json
from pathlib import Path

import pytest
import torch
from tiny import MODEL_TYPES, shrink_by_hand, single_query_heads, tiny, uneven
from transformers import AutoModelForCausalLM

from numprune_export.core.errors import OutputError
from numprune_export.models.checkpoint import modeling_numprune
from numprune_export.models.checkpoint.load import load, load_source
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.families import FAMILIES


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def by_transformers(folder):
    remote = "auto_map" in config_of(folder)
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=remote, dtype="auto")


def uniform(model_type, groups=4, **overrides):
    """Every layer keeps as many units, each layer other ones."""
    return shrink_by_hand(
        tiny(model_type, **overrides),
        groups=[[(layer + g) % 4 for g in range(groups)] for layer in range(3)],
        channels=[list(range(layer, layer + 40)) for layer in range(3)],
    )


def cast_weights(model, dtype):
    """Cast parameters only, as loading in `dtype` does: rotary frequencies stay fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_uneven_layers_reload_bit_equal(model_type, tied, saved, logits):
    model = uneven(model_type, tie_word_embeddings=tied)
    folder = saved(model)

    ours, theirs = load(folder), by_transformers(folder)
    again = load_source(resolve(str(folder), revision=None, search=[]), torch.float32)

    assert config_of(folder)["numprune"]["layout"] == "per-layer"
    for reloaded in (ours, theirs, again.model):
        assert torch.equal(logits(reloaded), logits(model))
        assert not reloaded.training
        assert (reloaded.lm_head.weight is reloaded.model.embed_tokens.weight) == tied
    assert again.family is FAMILIES[model_type]
    assert again.tokenizer is None


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_uneven_query_groups_reload_bit_equal(model_type, saved, logits):
    model = single_query_heads(model_type)
    folder = saved(model)
    layer = config_of(folder)["numprune"]["layers"][0]
    assert layer["groups"] == {"self_attn": [2, 2, 1]}
    for reloaded in (load(folder), by_transformers(folder)):
        assert torch.equal(logits(reloaded), logits(model))


def test_equal_widths_of_uneven_groups_are_no_stock_config(saved, logits):
    """Every layer has six query heads on two KV heads, but four and two: not what a config says."""
    model = single_query_heads(kept=[(0, 1, 2, 3, 4, 5)] * 3, num_key_value_heads=2)
    assert [layer.self_attn.query_groups for layer in model.model.layers] == [(4, 2)] * 3
    folder = saved(model)
    assert config_of(folder)["numprune"]["layout"] == "per-layer"
    assert torch.equal(logits(load(folder)), logits(model))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_equal_widths_load_with_no_code_of_ours(model_type, saved, logits):
    model = uniform(model_type, groups=2)
    folder = saved(model)
    config = config_of(folder)

    native = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)

    assert type(native).__module__.startswith("transformers.models")
    assert "auto_map" not in config
    assert not (folder / "modeling_numprune.py").exists()
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert (config["head_dim"], config["intermediate_size"]) == (8, 40)
    assert config["architectures"] == [FAMILIES[model_type].architecture]
    assert torch.equal(logits(native), logits(model))
    assert torch.equal(logits(load(folder)), logits(model))


def test_a_head_size_that_the_config_never_said_is_kept(saved, logits):
    model = uniform("qwen2", groups=2)
    del model.config.head_dim  # as published: hidden_size / num_attention_heads
    folder = saved(model)
    native = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert config_of(folder)["head_dim"] == 8
    assert torch.equal(logits(native), logits(model))


def test_the_numbers_that_a_forward_pass_reads_follow_the_widths(saved, logits):
    model = uneven("llama")
    attention = model.model.layers[1].self_attn  # one query head left for its one KV head
    attention.q_proj.weight.data = attention.q_proj.weight.data[:8].clone()
    attention.o_proj.weight.data = attention.o_proj.weight.data[:, :8].clone()
    attention.q_proj.out_features = 8
    attention.num_key_value_groups = 1
    for reloaded in (load(saved(model)), by_transformers(saved(model))):
        assert torch.equal(logits(reloaded), logits(model))
        groups = [block.self_attn.num_key_value_groups for block in reloaded.model.layers]
        assert groups == [2, 1, 2]
        assert [block.mlp.intermediate_size for block in reloaded.model.layers] == [48, 17, 52]


def test_llama_heads_that_do_not_divide_hidden_are_saved_as_mistral(saved, logits):
    model = uniform("llama", groups=3)
    folder = saved(model)
    config = config_of(folder)

    native = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)

    assert config["hidden_size"] % config["num_attention_heads"] == 64 % 6 != 0
    assert config["model_type"] == "mistral"
    assert config["sliding_window"] is None
    assert config["numprune"]["layout"] == "stock"
    assert torch.equal(logits(native), logits(model))


def test_llama_biases_cannot_become_mistral(saved, logits):
    model = uniform("llama", groups=3, attention_bias=True)
    folder = saved(model)
    assert config_of(folder)["numprune"]["layout"] == "per-layer"
    assert torch.equal(logits(load(folder)), logits(model))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_added_biases_survive(model_type, saved, logits):
    model = uniform(model_type, groups=2)
    torch.manual_seed(1)
    for block in model.model.layers:
        for linear in (block.self_attn.o_proj, block.mlp.down_proj):
            linear.bias = torch.nn.Parameter(torch.randn(64))
    folder = saved(model)
    assert config_of(folder)["numprune"]["layout"] == "per-layer"
    for reloaded in (load(folder), by_transformers(folder)):
        assert torch.equal(reloaded.model.layers[2].mlp.down_proj.bias, linear.bias)
        assert torch.equal(logits(reloaded), logits(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_saved_dtype_is_kept_and_can_be_changed(dtype, saved, logits):
    model = cast_weights(uneven("qwen3", tie_word_embeddings=True), dtype)
    folder = saved(model)
    for reloaded in (load(folder), by_transformers(folder)):
        assert reloaded.dtype == dtype
        assert torch.equal(logits(reloaded), logits(model))
    assert load(folder, dtype=torch.float32).dtype == torch.float32


def test_shards_hold_the_same_model_and_a_tied_weight_once(saved, logits):
    model = uneven("llama", tie_word_embeddings=True)
    folder = saved(model, max_shard_bytes=20_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert "lm_head.weight" not in index["weight_map"]
    assert torch.equal(logits(load(folder)), logits(model))
    assert torch.equal(logits(by_transformers(folder)), logits(model))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_generate_with_each_cache_and_left_padding(model_type, saved):
    padded = torch.tensor([[0, 0, 0, 5, 6, 7], [9, 8, 7, 6, 5, 4]])
    alone = torch.tensor([[5, 6, 7]])
    model = load(saved(uneven(model_type)))

    def generate(rows, **cache):
        mask = (rows != 0).long()
        return model.generate(
            rows,
            attention_mask=mask,
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=None,
            **cache,
        )

    dynamic = generate(padded)
    assert dynamic.shape == (2, 16)
    assert torch.equal(dynamic, generate(padded, cache_implementation="static"))
    assert torch.equal(dynamic, generate(padded, use_cache=False))
    assert torch.equal(dynamic[0, 6:], generate(alone)[0, 3:])


@pytest.mark.parametrize("load_again", [load, by_transformers])
def test_a_reloaded_model_saves_itself(load_again, saved, logits, tmp_path):
    model = uneven("qwen2")
    load_again(saved(model)).save_pretrained(tmp_path / "again")
    written = tmp_path / "again" / "modeling_numprune.py"
    assert written.read_text() == Path(modeling_numprune.__file__).read_text()
    for reloaded in (load(tmp_path / "again"), by_transformers(tmp_path / "again")):
        assert torch.equal(logits(reloaded), logits(model))


def test_two_folders_in_one_process_keep_their_own_widths(saved, logits):
    first, second = uneven("llama"), uniform("llama", groups=3, mlp_bias=True)
    folders = [saved(first), saved(second)]
    reloaded = [by_transformers(folder) for folder in folders]
    assert torch.equal(logits(reloaded[0]), logits(first))
    assert torch.equal(logits(reloaded[1]), logits(second))


def test_a_pruned_folder_is_pruned_and_saved_again(saved, logits):
    once = load(saved(uneven("llama")))
    twice = shrink_by_hand(once, [[0], [0], [0]], [[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    folder = saved(twice)
    native = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert torch.equal(logits(native), logits(twice))


def test_building_on_meta_allocates_nothing(saved):
    config = load(saved(uneven("llama"))).config
    with torch.device("meta"):
        model = modeling_numprune.CLASSES["LlamaForCausalLM"](config)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.model.layers[1].mlp.up_proj.weight.shape == (17, 64)


def test_a_folder_with_something_in_it_is_refused(tmp_path, saved):
    from numprune_export.models.checkpoint.save import save

    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        save(tiny(), None, FAMILIES["llama"], tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
