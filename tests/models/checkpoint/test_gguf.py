"""GGUF files written here as llama.cpp writes them, read as Hugging Face models."""

import struct
import sys

import pytest
import torch
from gguf_files import write
from tiny import tiny

from numprune_export.core.errors import InputError, MissingExtraError, UnsupportedModelError
from numprune_export.models.checkpoint.gguf_header import read_header
from numprune_export.models.checkpoint.load import load_source, skeleton
from numprune_export.models.checkpoint.source import resolve


def find(path):
    return resolve(str(path), revision=None, search=[])


@pytest.mark.parametrize(
    ("model_type", "tied"), [("llama", False), ("llama", True), ("qwen2", True)]
)
def test_a_gguf_is_the_model_it_was_written_from(model_type, tied, tmp_path, logits, capfd):
    model = tiny(model_type, tie_word_embeddings=tied)
    architecture = "llama" if model_type == "mistral" else model_type
    name = [("general.name", f"A {model_type} model")]
    path = write(tmp_path / "tiny.gguf", model, architecture=architecture, extra=name)

    source = find(path)
    loaded = load_source(source, torch.float32)

    assert (source.kind, source.model_type) == ("gguf", model_type)
    assert loaded.family is source.family
    assert (loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight) == tied
    torch.testing.assert_close(logits(loaded.model), logits(model), rtol=0, atol=1e-5)
    assert loaded.tokenizer("!#$")["input_ids"] == [96, 6]
    assert loaded.tokenizer.eos_token_id == 2
    assert not loaded.model.training
    assert capfd.readouterr().err == ""


def test_weights_are_dequantised_to_the_dtype_asked_for(tmp_path):
    path = write(tmp_path / "tiny.gguf", tiny("llama"))
    loaded = load_source(find(path), torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert isinstance(loaded.model.model.layers[0].mlp.up_proj, torch.nn.Linear)


def test_a_loaded_gguf_is_saved_as_a_plain_checkpoint(tmp_path, saved, logits):
    loaded = load_source(find(write(tmp_path / "tiny.gguf", tiny("llama"))), torch.float32)
    folder = saved(loaded.model, loaded.tokenizer)
    again = load_source(find(folder), torch.float32)
    assert torch.equal(logits(again.model), logits(loaded.model))
    assert again.tokenizer("!#$")["input_ids"] == [96, 6]


def test_a_gguf_without_a_tokenizer(tmp_path):
    path = write(tmp_path / "tiny.gguf", tiny("llama"), words=False)
    assert load_source(find(path), torch.float32).tokenizer is None


def test_mistral_is_told_from_llama_by_its_name(tmp_path):
    path = write(tmp_path / "m.gguf", extra=[("general.name", "Mistral 7B v0.3")])
    assert find(path).family.architecture == "MistralForCausalLM"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"architecture": "gpt2"}, "`gpt2`"),
        ({"extra": [("llama.expert_count", 8)]}, "mixture of experts"),
        ({"extra": [("llama.rope.scaling.type", "yarn")]}, "rotary scaling"),
        ({"tensors": ["rope_freqs.weight"]}, "rotary scaling"),
        ({"extra": [("split.count", 3)]}, "one part of a split file"),
    ],
)
def test_what_would_be_read_wrong_is_refused_by_name(settings, what, tmp_path):
    with pytest.raises(UnsupportedModelError, match=what):
        find(write(tmp_path / "x.gguf", **settings))


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_absent_packages_are_named(package, tmp_path, monkeypatch):
    source = find(write(tmp_path / "tiny.gguf", tiny("llama")))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"`{package}`") as caught:
        load_source(source, torch.float32)
    assert "numprune-export[gguf]" in caught.value.hint


@pytest.mark.parametrize("keep", [0, 3, 10, 40, 200, 1500])
def test_a_file_that_ends_in_its_header(keep, tmp_path):
    path = write(tmp_path / "tiny.gguf", tiny("llama"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a readable GGUF file"):
        find(path)


def test_a_file_that_ends_in_its_tensors(tmp_path):
    path = write(tmp_path / "tiny.gguf", tiny("llama"))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="cannot be read as a model"):
        load_source(find(path), torch.float32)


@pytest.mark.parametrize(
    "content",
    [b"GGML" + bytes(100), b"GGUF" + struct.pack("<IQQ", 9, 0, 0), b"GGUF" + b"\xff" * 60],
)
def test_a_file_that_is_no_gguf(content, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable GGUF file"):
        find(path)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="neither a folder nor"):
        find(tmp_path / "model.bin")


def test_the_header_says_what_was_written(tmp_path):
    header = read_header(write(tmp_path / "tiny.gguf", tiny("llama")))
    assert header.architecture == "llama"
    assert header.metadata["llama.embedding_length"] == 64
    assert header.metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert len(header.tensors) == 3 * 9 + 3
    assert "blk.2.ffn_down.weight" in header.tensors


def test_the_fingerprint_of_a_gguf_is_its_content(tmp_path):
    path = write(tmp_path / "a.gguf", tiny("llama"))
    before = find(path).fingerprint()
    moved = path.rename(tmp_path / "b.gguf")
    assert find(moved).fingerprint() == before
    write(moved, tiny("llama", seed=1))
    assert find(moved).fingerprint() != before


def header(*pairs, tensors=0):
    """A file of nothing but metadata, its values packed by hand."""
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs)) + b"".join(pairs)


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key, kind, layout="", *value):
    return text(key) + struct.pack("<I" + layout, kind, *value)


LLAMA = text("general.architecture") + struct.pack("<I", 8) + text("llama")
SIZES = {
    "block_count": 1,
    "context_length": 64,
    "embedding_length": 64,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "vocab_size": 64,
}


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ([pair("split.count", 6, "f", float("nan"))], "`split.count` is `nan`"),
        ([pair("split.count", 6, "f", float("inf"))], "`split.count` is `inf`"),
        ([pair("split.count", 8) + text("x")], "`split.count` is `x`"),
        ([pair("llama.expert_count", 8) + text("x")], "`llama.expert_count` is `x`"),
        ([pair("a", 9, "") + struct.pack("<IQ", 9, 1) * 5000], "more than 8 deep"),
        ([pair("a", 9, "IQ", 0, 10**9)], "ends inside an array"),
        ([pair("a", 9, "IQ", 0, 2**63)], "ends inside an array"),
        ([pair("a", 77, "")], "value type 77 is unknown"),
        ([pair("a", 4, "I", 1), pair("a", 4, "I", 2)], "`a` is duplicated"),
    ],
)
def test_a_header_that_is_damaged(damage, what, tmp_path):
    (tmp_path / "x.gguf").write_bytes(header(LLAMA, *damage))
    with pytest.raises(InputError, match=what):
        find(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("block_count", 2**31, "is 2147483648, but the weights have only 12 tensors"),
        ("block_count", 13, "is 13, but the weights have only 12 tensors"),
        ("attention.head_count", 0, "cannot be read as a model"),
        ("attention.head_count", 1, "no model can be built"),
        ("attention.head_count_kv", 2**31, "no model can be built"),
        ("embedding_length", 0, "cannot be read as a model"),
        ("feed_forward_length", 0, "no model can be built"),
        ("vocab_size", "x", "cannot be read as a model"),
        ("context_length", "x", "cannot be read as a model"),
    ],
)
def test_a_header_of_impossible_sizes(key, value, what, tmp_path):
    pairs = [LLAMA, pair("llama.attention.layer_norm_rms_epsilon", 6, "f", 1e-5)]
    for name, size in (SIZES | {key: value}).items():
        whole = isinstance(size, int)
        kind, rest = (4, struct.pack("<I", size)) if whole else (8, text(size))
        pairs.append(pair(f"llama.{name}", kind) + rest)
    tensors = b"".join(
        text(f"blk.0.{index}") + struct.pack("<IQIQ", 1, 4, 0, 32 * index) for index in range(12)
    )
    content = header(*pairs, tensors=12) + tensors
    content += bytes(-len(content) % 32) + bytes(32 * 12)
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InputError, match=what):
        skeleton(find(tmp_path / "x.gguf"))


def test_a_tensor_named_twice(tmp_path):
    tensor = text("a") + struct.pack("<IQIQ", 1, 4, 0, 0)
    (tmp_path / "x.gguf").write_bytes(header(LLAMA, tensors=2) + tensor * 2)
    with pytest.raises(InputError, match="the tensor `a` is duplicated"):
        find(tmp_path / "x.gguf")
