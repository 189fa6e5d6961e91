"""A saved encoder comes back as the same network, by our loader and by transformers alone."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from emptied import emptied_encoder
from tiny_encoder import TASKS, tiny_encoder, uneven_encoder

from numprune_export.core.errors import InputError
from numprune_export.models.checkpoint import manifest, modeling_numprune
from numprune_export.models.checkpoint.load import load, load_source
from numprune_export.models.checkpoint.reload_probe import logits_of
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.families import ENCODERS

TYPES = sorted(ENCODERS)
AUTO = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}
PADDED = {
    "tokens": torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 1, 1, 1]]),
    "real": torch.tensor([[True] * 6, [True] * 3 + [False] * 3]),
}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def edit(folder, change):
    """Change config.json; the manifest, which would notice, goes."""
    (folder / manifest.NAME).unlink()
    config = config_of(folder)
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def by_transformers(folder, task):
    remote = "auto_map" in config_of(folder)
    model = getattr(transformers, AUTO[task]).from_pretrained(folder, trust_remote_code=remote)
    return model.eval()


def same(reloaded, model):
    return torch.equal(logits_of(reloaded, PADDED), logits_of(model, PADDED))


def head_counts(model):
    """As the attention modules themselves say."""
    family = ENCODERS[model.config.model_type]
    modules = [block.get_submodule(family.self_attention) for block in family.block_list(model)]
    return [[getattr(module, name, None) for name in family.head_attributes] for module in modules]


def narrow(model_type, task="sequence", neurons=20):
    """Every layer keeps all its heads and as many neurons."""
    family, model = ENCODERS[model_type], tiny_encoder(model_type, task)
    for index, block in enumerate(family.block_list(model)):
        up, down = block.get_submodule(family.up), block.get_submodule(family.down)
        rows = slice(index, index + neurons)
        up.weight.data, up.bias.data = up.weight.data[rows].clone(), up.bias.data[rows].clone()
        down.weight.data = down.weight.data[:, rows].clone()
        up.out_features = down.in_features = neurons
    return model


@pytest.mark.parametrize("make", [uneven_encoder, emptied_encoder])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", TYPES)
def test_uneven_and_emptied_layers_reload_bit_equal(model_type, task, make, saved):
    model = make(model_type, task)
    folder = saved(model)
    again = load_source(resolve(str(folder), revision=None, search=[]), torch.float32)
    config = config_of(folder)
    assert config["numprune"]["layout"] == "per-layer"
    assert sorted(config["auto_map"]) == ["AutoModel", AUTO[task]]
    for reloaded in (load(folder), by_transformers(folder, task), again.model):
        assert same(reloaded, model)
        assert not reloaded.training
        assert reloaded.state_dict().keys() == model.state_dict().keys()
        assert head_counts(reloaded) == head_counts(model)
    assert again.family is ENCODERS[model_type]
    assert again.family.head_of(again.model).task == task


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", TYPES)
def test_equal_neurons_and_all_heads_load_with_no_code_of_ours(model_type, task, saved):
    model = narrow(model_type, task)
    folder = saved(model)
    native = getattr(transformers, AUTO[task]).from_pretrained(folder, trust_remote_code=False)
    config = config_of(folder)
    assert type(native).__module__.startswith("transformers.models")
    assert "auto_map" not in config
    assert not (folder / "modeling_numprune.py").exists()
    assert config[ENCODERS[model_type].neurons_key] == 20
    assert same(native.eval(), model)
    assert same(load(folder), model)


@pytest.mark.parametrize("model_type", TYPES)
def test_fewer_heads_in_every_layer_are_more_than_a_config_can_say(model_type, saved):
    model = emptied_encoder(model_type, emptied=())  # 2 of 4 heads, 24 of 48 neurons everywhere
    folder = saved(model)
    assert config_of(folder)["numprune"]["layout"] == "per-layer"
    assert same(load(folder), model)


@pytest.mark.parametrize("kinds", [("mlp",), ("attention",), ("attention", "mlp")], ids="+".join)
@pytest.mark.parametrize("model_type", TYPES)
def test_a_kind_of_sublayer_may_be_gone_from_the_whole_model(model_type, kinds, saved):
    emptied = [f"layers.{index}.{kind}" for index in range(3) for kind in kinds]
    model = emptied_encoder(model_type, "span", emptied=emptied)
    folder = saved(model)
    assert same(load(folder), model)
    assert same(by_transformers(folder, "span"), model)
    sites = ENCODERS[model_type].sites(load(folder))
    assert len(sites) == 6 - len(emptied)
    assert not {site.kind for site in sites} & set(kinds)


def test_a_config_keeps_the_dense_values_and_lists_what_is_left(saved):
    config = config_of(saved(emptied_encoder("distilbert", "token")))
    layers = config["numprune"]["layers"]
    assert (config["n_heads"], config["dim"], config["hidden_dim"]) == (4, 32, 48)
    assert config["architectures"] == ["NumpruneDistilBertForTokenClassification"]
    assert "rope_theta" not in config
    assert layers[0] == {
        "linears": {"ffn.lin1": [24, 32, True], "ffn.lin2": [32, 24, True]},
        "attributes": {},
        "emptied": {"attention": {"kind": "attention", "consumer": "attention.out_lin"}},
        "groups": {},
    }
    assert layers[1]["attributes"] == {"attention.n_heads": 2, "attention.dim": 16}
    assert layers[2]["linears"] == {}


@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder, emptied_encoder])
@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": {0: "ham", 1: "spam"}, "label2id": {"ham": 0, "spam": 1}, "num_labels": 2},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 7},
    ],
    ids=["named", "regression", "many"],
)
def test_labels_survive(make, labels, saved):
    model = make("bert", **labels)
    folder = saved(model)
    for reloaded in (load(folder), by_transformers(folder, "sequence")):
        for key in ("id2label", "label2id", "num_labels", "problem_type"):
            assert getattr(reloaded.config, key) == getattr(model.config, key)
        assert same(reloaded, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_saved_dtype_is_kept(dtype, saved):
    model = emptied_encoder("bert").to(dtype)
    reloaded = load(saved(model))
    assert {parameter.dtype for parameter in reloaded.parameters()} == {dtype}
    assert same(reloaded, model)


@pytest.mark.parametrize("by_us", [True, False])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", TYPES)
def test_a_reloaded_model_saves_itself(model_type, task, by_us, saved, tmp_path):
    model = emptied_encoder(model_type, task)
    folder = saved(model)
    reloaded = load(folder) if by_us else by_transformers(folder, task)
    reloaded.save_pretrained(tmp_path / "again")
    written = tmp_path / "again" / "modeling_numprune.py"
    assert written.read_text() == Path(modeling_numprune.__file__).read_text()
    assert sorted(config_of(tmp_path / "again")["auto_map"]) == ["AutoModel", AUTO[task]]
    for again in (load(tmp_path / "again"), by_transformers(tmp_path / "again", task)):
        assert same(again, model)


def test_what_was_reloaded_is_saved_by_us_to_the_same_bytes(saved):
    first = saved(emptied_encoder("roberta", "span"))
    second = saved(load(first))
    names = {path.name for path in first.iterdir()}
    assert names == {"config.json", "model.safetensors", "modeling_numprune.py", manifest.NAME}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_shards_hold_the_same_model(saved):
    model = emptied_encoder("bert", "span")
    folder = saved(model, max_shard_bytes=10_000)
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert same(load(folder), model)
    assert same(by_transformers(folder, "span"), model)


def test_emptied_layers_train_and_show_their_hidden_states(saved):
    model = load(saved(emptied_encoder("bert"))).train()
    answer = model(PADDED["tokens"], labels=torch.tensor([0, 1]), output_hidden_states=True)
    answer.loss.backward()
    assert len(answer.hidden_states) == 4
    bias = model.bert.encoder.layer[2].attention.output.dense.bias
    assert bias.grad.abs().max() > 0


EMPTY = {"kind": "mlp", "consumer": "output.dense"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda emptied: emptied.pop("attention.self"), r"missing tensors.*output\.dense\.weight"),
        (lambda emptied: emptied["attention.self"].update(consumer="attention"), "can be built"),
        (lambda emptied: emptied["attention.self"].update(consumer="a.b"), "can be built"),
        (lambda emptied: emptied["attention.self"].update(EMPTY), "missing tensors"),
        (lambda emptied: emptied.update({"nothing": EMPTY}), "can be built"),
        (lambda emptied: emptied.update({"": EMPTY}), "unexpected tensors"),
        (lambda emptied: emptied["attention.self"].update(kind="x"), r"`numprune\.layers\.0\.em"),
        (lambda emptied: emptied.update(intermediate=3), r"`numprune\.layers\.0\.emptied"),
    ],
)
def test_a_damaged_list_of_emptied_sublayers(change, what, saved):
    folder = saved(emptied_encoder("bert"))
    edit(folder, lambda config: change(config["numprune"]["layers"][0]["emptied"]))
    with pytest.raises(InputError, match=what):
        load(folder)
