"""Families: the table, the refusals, and what a declaration says of a real module tree."""

import pytest
import torch
from tiny import MODEL_TYPES, tiny, tiny_config, uneven
from tiny_encoder import tiny_encoder

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.models.families import DECODERS, ENCODERS, FAMILIES, architecture_of, family_of


def test_the_families_are_those_promised():
    assert MODEL_TYPES == sorted(DECODERS) == ["llama", "mistral", "qwen2", "qwen3"]
    assert sorted(ENCODERS) == ["bert", "distilbert", "roberta"]
    assert {**DECODERS, **ENCODERS} == FAMILIES
    assert all(family.model_type == name for name, family in FAMILIES.items())


@pytest.mark.parametrize(
    ("model_type", "hint"),
    [
        ("llamma", "did you mean `llama`"),
        ("distillbert", "did you mean `distilbert`"),
        ("gpt2", "supported: bert, distilbert, llama, mistral, qwen2, qwen3, roberta"),
    ],
)
def test_an_unknown_architecture_is_refused_by_name(model_type, hint):
    with pytest.raises(UnsupportedModelError, match=f"`{model_type}`") as caught:
        family_of(model_type, None)
    assert hint in caught.value.hint


def test_another_head_of_a_known_family_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match="LlamaForSequenceClassification"):
        family_of("llama", ["LlamaForSequenceClassification"])
    assert family_of("llama", ["LlamaForCausalLM"]) is FAMILIES["llama"]
    assert family_of("llama", []) is FAMILIES["llama"]


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_every_task_head_of_an_encoder_is_known(model_type):
    family = ENCODERS[model_type]
    assert [task_head.task for task_head in family.heads] == ["sequence", "token", "span"]
    for head in family.heads:
        model = tiny_encoder(model_type, head.task)
        for name in (head.architecture, f"Numprune{head.architecture}"):
            assert family_of(model_type, [name]) is family
            assert architecture_of(family, [name]) == head.architecture
        assert type(model).__name__ == head.architecture
        assert family.head_of(model) is head


@pytest.mark.parametrize(
    "name", ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForMultipleChoice"]
)
def test_an_encoder_without_a_task_head_is_refused_by_name(name):
    with pytest.raises(UnsupportedModelError, match=f"`{name}`.*`BertForTokenCl") as caught:
        family_of("bert", [name])
    assert "fine-tuned" in caught.value.hint


def test_an_encoder_that_does_not_say_its_head_is_refused():
    with pytest.raises(UnsupportedModelError, match="`roberta` model has no") as caught:
        family_of("roberta", [])
    assert "`RobertaForQuestionAnswering`" in caught.value.hint
    assert family_of("roberta", None) is ENCODERS["roberta"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_unit_costs_add_up_to_all_linear_parameters(model_type):
    model, family = tiny(model_type), FAMILIES[model_type]
    sites = family.sites(model)
    linears = sum(
        parameter.numel()
        for block in family.block_list(model)
        for module in block.modules()
        if isinstance(module, torch.nn.Linear)
        for parameter in module.parameters()
    )
    assert sum(site.units * site.unit_cost for site in sites) == linears
    assert [site.name for site in sites[:2]] == ["layers.0.attention", "layers.0.mlp"]


def test_a_unit_with_biases_costs_them_too():
    plain, biased = (
        FAMILIES["llama"].sites(tiny("llama", attention_bias=on, mlp_bias=on))
        for on in (False, True)
    )
    # attention: 16 query, 8 key and 8 value rows a unit; mlp: gate and up; o and down biases stay
    assert biased[0].unit_cost - plain[0].unit_cost == 32
    assert biased[1].unit_cost - plain[1].unit_cost == 2


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_decoder_shares_the_models_tensors_and_knows_each_layers_widths(model_type):
    model = uneven(model_type)
    decoder = FAMILIES[model_type].decoder(model)
    first = model.model.layers[0]
    assert decoder.layers[0].query.weight is first.self_attn.q_proj.weight
    assert decoder.layers[0].down.weight is first.mlp.down_proj.weight
    assert [(layer.query_heads, layer.kv_heads, layer.channels) for layer in decoder.layers] == [
        (6, 3, 48),
        (2, 1, 17),
        (4, 2, 52),
    ]
    assert (decoder.layers[0].query_norm is not None) == (model_type == "qwen3")
    assert (decoder.layers[0].query.bias is not None) == (model_type == "qwen2")
    assert not decoder.tied


def test_tied_embeddings_are_known():
    assert FAMILIES["qwen2"].decoder(tiny("qwen2", tie_word_embeddings=True)).tied


def test_sliding_windows_are_read_layer_by_layer():
    everywhere = FAMILIES["mistral"].decoder(tiny("mistral", sliding_window=5))
    assert [layer.sliding_window for layer in everywhere.layers] == [5, 5, 5]
    longer = FAMILIES["mistral"].decoder(tiny("mistral", sliding_window=128))
    assert [layer.sliding_window for layer in longer.layers] == [None, None, None]
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    model = tiny("qwen3", sliding_window=5, use_sliding_window=True, layer_types=kinds)
    mixed = FAMILIES["qwen3"].decoder(model)
    assert [layer.sliding_window for layer in mixed.layers] == [None, 5, None]


def test_a_rotation_that_depends_on_the_length_is_refused_by_name():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert tiny_config("llama", rope_parameters=rope).rope_parameters["rope_type"] == "dynamic"
    with pytest.raises(UnsupportedModelError, match="`dynamic`"):
        FAMILIES["llama"].decoder(tiny("llama", rope_parameters=rope))


def built(model_type):
    return tiny_encoder(model_type, "token") if model_type in ENCODERS else tiny(model_type)


def seen_in(model, paths, tokens):
    """By path: the first input and the output of modules while the model reads `tokens`."""
    seen, handles = {}, []
    for path in paths:

        def look(_, inputs, output, path=path):
            first = output[0] if isinstance(output, tuple) else output
            seen[path] = (inputs[0] if inputs else None, first)

        handles.append(model.get_submodule(path).register_forward_hook(look))
    with torch.no_grad():
        model(input_ids=tokens)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_token_sees_later_ones_unless_the_family_is_causal(model_type):
    family, model = FAMILIES[model_type], built(model_type)
    tokens = torch.arange(5, 11)[None]
    other = tokens.clone()
    other[0, -1] += 1
    last = f"{family.blocks}.{len(family.block_list(model)) - 1}"
    before, after = (seen_in(model, [last], x)[last][1][:, :-1] for x in (tokens, other))
    assert torch.equal(before, after) == family.causal
    assert family.kind == ("encoder" if model_type in ENCODERS else "decoder")


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_sublayers_output_is_the_residual_and_what_its_consumer_gives(model_type):
    family, model = FAMILIES[model_type], built(model_type)
    block = f"{family.blocks}.1"
    attention, mlp = (site for site in family.sites(model) if site.block == 1)
    ends = [family.sublayer_output(site.kind) for site in (attention, mlp)]
    consumers = [f"{block}.{site.consumer}" for site in (attention, mlp)]
    named = [f"{block}.{path}" for path in ends if path is not None]
    seen = seen_in(model, [block, *consumers, *named], torch.arange(5, 11)[None])
    after_attention = seen[f"{block}.{ends[0]}"]
    assert torch.equal(after_attention[0], seen[block][0] + seen[consumers[0]][1])
    residual = after_attention[0] if family.causal else after_attention[1]
    whole = seen[block][1] if ends[1] is None else seen[f"{block}.{ends[1]}"][0]
    assert torch.equal(whole, residual + seen[consumers[1]][1])


@pytest.mark.parametrize("task", ["sequence", "token", "span"])
def test_a_head_with_one_answer_per_text_reads_the_first_token_only(task):
    """A change to the last hidden state of any later token must not reach the answer."""
    family, model = FAMILIES["bert"], tiny_encoder("bert", task)
    path = f"{family.blocks}.{len(family.block_list(model)) - 1}"

    def answers(change):
        def disturb(_, __, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = torch.cat([hidden[:, :1], hidden[:, 1:] + change], 1)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = model.get_submodule(path).register_forward_hook(disturb)
        with torch.no_grad():
            output = model(input_ids=torch.arange(5, 11)[None])
        handle.remove()
        return output.start_logits if task == "span" else output.logits

    assert torch.equal(answers(0.0), answers(1.0)) == family.reads_first_token_only(model)
