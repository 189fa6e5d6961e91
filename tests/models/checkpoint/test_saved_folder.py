"""What a saved folder says about itself, to us and to older transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import MODEL_TYPES, tiny, uneven
from tiny_encoder import uneven_encoder
from transformers import AutoModel, AutoTokenizer, GenerationConfig

from numprune_export.core.errors import InputError, OutputError
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.load import load, load_source
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.families import ENCODERS, FAMILIES

LLAMA3_ROTATION = {
    "rope_type": "llama3",
    "rope_theta": 50_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def read(folder, name="config.json"):
    return json.loads((folder / name).read_text())


def write(folder, values, name="config.json"):
    (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("make", [tiny, uneven])
def test_the_rotation_is_written_for_old_and_new_transformers(make, model_type, saved):
    model = make(model_type, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})
    folder = saved(model)
    config = read(folder)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500_000.0
    assert "rope_scaling" not in config
    inverse = load(folder).model.rotary_emb.inv_freq
    assert torch.equal(inverse, model.model.rotary_emb.inv_freq)


def test_rotary_scaling_is_written_for_old_and_new_transformers(saved, logits):
    model = uneven("llama", rope_parameters=LLAMA3_ROTATION)
    folder = saved(model)
    config = read(folder)
    assert config["rope_theta"] == 50_000.0
    assert config["rope_scaling"]["factor"] == 8.0
    assert config["rope_parameters"] == LLAMA3_ROTATION
    assert torch.equal(logits(load(folder)), logits(model))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("make", [tiny, uneven])
def test_sliding_windows_survive(make, window, saved, logits):
    model = make("mistral", sliding_window=window)
    folder = saved(model)
    assert load(folder).config.sliding_window == window
    assert torch.equal(logits(load(folder)), logits(model))


def test_the_config_keeps_dense_values_and_lists_the_widths(saved):
    folder = saved(uneven("qwen2"), record={"method": "numerical", "parent": {"sha256": "ab"}})
    config = read(folder)
    section = config["numprune"]
    assert (config["intermediate_size"], config["num_attention_heads"]) == (96, 8)
    assert config["architectures"] == ["NumpruneQwen2ForCausalLM"]
    assert config["dtype"] == "float32"
    assert (section["method"], section["parent"]) == ("numerical", {"sha256": "ab"})
    assert section["format_version"] == 1
    assert section["layers"][1]["linears"] == {
        "self_attn.q_proj": [16, 64, True],
        "self_attn.k_proj": [8, 64, True],
        "self_attn.v_proj": [8, 64, True],
        "self_attn.o_proj": [64, 16, False],
        "mlp.gate_proj": [17, 64, False],
        "mlp.up_proj": [17, 64, False],
        "mlp.down_proj": [64, 17, False],
    }
    assert section["layers"][1]["attributes"] == {
        "self_attn.num_key_value_groups": 2,
        "mlp.intermediate_size": 17,
    }


def test_generation_settings_survive_even_those_transformers_would_not_save(saved):
    model = uneven("llama")
    model.generation_config.temperature = 0.6  # without do_sample, as Llama 2 was published
    model.generation_config.max_length = 77
    reloaded = load(saved(model))
    assert reloaded.generation_config.temperature == 0.6
    assert reloaded.generation_config.max_length == 77
    assert reloaded.generation_config.eos_token_id == 2


@pytest.mark.parametrize("make", [tiny, uneven])
def test_the_tokenizer_comes_along_under_a_name_old_transformers_know(make, tokenizer, saved):
    tokenizer.chat_template = "{{ messages[0].content }}"
    folder = saved(make("llama"), tokenizer)
    assert read(folder, "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"

    source = resolve(str(folder), revision=None, search=[])
    for reloaded in (
        load_source(source, torch.float32).tokenizer,
        AutoTokenizer.from_pretrained(folder),
    ):
        text = "w3 w90 unknown w0"
        assert reloaded(text)["input_ids"] == tokenizer(text)["input_ids"] == [6, 93, 0, 3]
        assert reloaded.eos_token_id == 2
        assert reloaded.chat_template == tokenizer.chat_template


def test_a_damaged_tokenizer_is_an_input_error(tokenizer, saved):
    folder = saved(tiny("llama"), tokenizer)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="the tokenizer of"):
        load_source(resolve(str(folder), revision=None, search=[]), torch.float32)


def test_the_manifest_lists_every_file(tokenizer, saved):
    folder = saved(uneven("llama"), tokenizer, max_shard_bytes=20_000)
    listed = set(read(folder, manifest.NAME)["files"])
    assert listed | {manifest.NAME} == {path.name for path in folder.iterdir()}
    assert {"modeling_numprune.py", "tokenizer.json", "config.json"} <= listed
    manifest.verify(folder)


def test_every_file_is_readable_by_whom_the_config_is(saved):
    folder = saved(uneven("llama"))
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_changed_byte_is_found_on_request_and_a_changed_size_of_weights_always(saved):
    folder = saved(uneven("llama"))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    load(folder)
    with pytest.raises(InputError, match=r"model\.safetensors.*sha256"):
        load(folder, verify_hashes=True)

    weights.write_bytes(content + b"\0")
    with pytest.raises(InputError, match=r"model\.safetensors` is truncated or corrupt"):
        load(folder)


def edit_card(folder):
    (folder / "README.md").write_text("Trained further by us.\n")


def set_generation(folder):
    settings = GenerationConfig.from_pretrained(folder)
    settings.max_new_tokens = 64
    settings.save_pretrained(folder)


def save_tokenizer(folder):
    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = "{{ messages }}"
    words.save_pretrained(folder)


def fine_tune(folder):
    model = load(folder)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.01)
    model.save_pretrained(folder)


def fine_tune_in_another_dtype(folder):
    load(folder, dtype=torch.bfloat16).save_pretrained(folder)


def add_words(folder):
    model = load(folder)
    model.resize_token_embeddings(100)
    model.save_pretrained(folder)


def remove_generation(folder):
    (folder / "generation_config.json").unlink()


@pytest.mark.parametrize(
    "use",
    [
        edit_card, set_generation, save_tokenizer, fine_tune, fine_tune_in_another_dtype, add_words,
        remove_generation,
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [tiny, uneven])
def test_a_folder_loads_after_normal_use_and_proof_is_still_to_be_had(make, use, tokenizer, saved):
    folder = saved(make("llama"), tokenizer)
    (folder / "README.md").write_text("A model card.\n")
    manifest.write(folder)
    load(folder, verify_hashes=True)
    use(folder)
    loaded = load(folder)
    assert type(loaded).__name__ == read(folder)["architectures"][0]
    with pytest.raises(InputError, match=r"is missing|bytes, not the recorded|sha256"):
        load(folder, verify_hashes=True)


def test_fine_tuned_weights_are_those_that_load(saved):
    folder = saved(uneven("llama"))
    before = load(folder).model.norm.weight.clone()
    fine_tune(folder)
    assert torch.equal(load(folder).model.norm.weight, before * 1.01)


@pytest.mark.parametrize("make", [tiny, uneven])
@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_config_says_whether_the_saved_head_is_tied(model_type, said, make, saved, logits):
    """Of the weights, not of the dense config: transformers 4 drops a head where it says tied."""
    model = make(model_type, tie_word_embeddings=not said)
    model.config.tie_word_embeddings = said
    folder = saved(model)
    tied = not said
    assert read(folder)["tie_word_embeddings"] is tied
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
    assert torch.equal(logits(load(folder)), logits(model))


def test_a_model_without_its_head_loads_from_the_same_folder(saved, tokens):
    model = uneven("llama")
    folder = saved(model)
    trunk = AutoModel.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        assert torch.equal(trunk(tokens)[0], model.model(tokens)[0])


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_an_encoder_without_its_head_loads_from_the_same_folder(model_type, saved, tokens):
    model = uneven_encoder(model_type, "token")
    folder = saved(model)
    trunk = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.inference_mode():
        assert torch.equal(trunk(tokens)[0], model.base_model(tokens)[0])


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_manifest_cannot_point_outside(name, saved):
    folder = saved(uneven("llama"))
    (folder.parent / "outside").write_text("")
    content = read(folder, manifest.NAME)
    content["files"][name] = content["files"]["config.json"]
    write(folder, content, manifest.NAME)
    with pytest.raises(InputError, match="outside the folder"):
        load(folder, verify_hashes=True)


@pytest.mark.parametrize(
    "content", [{}, {"format_version": 2, "files": {}}, {"format_version": 1, "files": {"a": 3}}]
)
def test_a_manifest_that_is_none(content, saved):
    folder = saved(uneven("llama"))
    write(folder, content, manifest.NAME)
    with pytest.raises(InputError, match=r"manifest\.json"):
        load(folder, verify_hashes=True)


def test_hashes_cannot_be_checked_without_a_manifest(saved):
    folder = saved(uneven("llama"))
    (folder / manifest.NAME).unlink()
    load(folder)
    with pytest.raises(InputError, match=r"no `manifest\.json`"):
        load(folder, verify_hashes=True)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda section: None, "was not written by numprune-export"),
        (lambda section: section | {"format_version": 2}, r"`numprune\.format_version`"),
        (lambda section: section | {"layout": "other"}, r"`numprune\.layout`"),
        (lambda section: section | {"layers": section["layers"][:2]}, "lists 2 layers"),
        (lambda section: section | {"layers": [{}] * 3}, r"`numprune\.layers\.0\.linears`"),
    ],
)
def test_a_damaged_section(damage, what, saved):
    folder = saved(uneven("llama"))
    config = read(folder)
    section = damage(config.pop("numprune"))
    write(folder, config if section is None else config | {"numprune": section})
    with pytest.raises(InputError, match=what):
        load(folder)


@pytest.mark.parametrize("path", ["self_attn.nothing", "self_attn"])
def test_a_section_cannot_replace_what_is_no_linear(path, saved):
    folder = saved(uneven("llama"))
    config = read(folder)
    config["numprune"]["layers"][0]["linears"][path] = [8, 8, False]
    write(folder, config)
    with pytest.raises(InputError, match="no model can be built"):
        load(folder)


def test_widths_that_are_not_those_of_the_weights(saved):
    folder = saved(uneven("llama"))
    config = read(folder)
    config["numprune"]["layers"][1]["linears"]["mlp.up_proj"][0] += 1
    write(folder, config)
    with pytest.raises(InputError, match=r"mismatched.*layers\.1\.mlp\.up_proj"):
        load(folder)


def test_our_loader_runs_no_code_from_the_folder(saved):
    folder = saved(uneven("llama"))
    (folder / "modeling_numprune.py").write_text("raise SystemExit('code from the folder ran')")
    load(folder)
    load_source(resolve(str(folder), revision=None, search=[]), torch.float32)


def test_an_unwritable_disk_is_an_output_error(tmp_path, monkeypatch):
    from numprune_export.models.checkpoint.save import save

    folder = tmp_path / "model"
    folder.mkdir()
    with limited_file_size(20_000), pytest.raises(OutputError, match="could not be written"):
        save(tiny(), None, FAMILIES["llama"], folder, {})


class limited_file_size:
    """The operating system refuses to let a file of this process grow past `limit` bytes."""

    def __init__(self, limit):
        self.limit = limit

    def __enter__(self):
        import resource
        import signal

        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.before[1]))

    def __exit__(self, *exc):
        import resource
        import signal

        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)
