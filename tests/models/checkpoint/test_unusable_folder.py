"""Folders and files that are not the model they are taken for: the message says what they are."""

import json

import pytest
from tiny import tiny
from words import word_tokenizer

from numprune_export.core.errors import InputError, MissingExtraError
from numprune_export.models.checkpoint import tokenizer_files
from numprune_export.models.checkpoint.folder import read_model
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.checkpoint.tokenizer_files import read_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>"
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def refusal(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError) as error:
        resolve(str(folder), revision=None, search=[])
    return str(error.value), error.value.hint


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (
            {"adapter_config.json": {"base_model_name_or_path": "org/base"}},
            "contains an adapter (PEFT), not a model",
            "merge it into `org/base` with `merge_and_unload()`",
        ),
        ({"adapter_config.json": [], "config.json": CONFIG}, "an adapter", "its base model"),
        ({"model_index.json": {}}, "pipeline of `diffusers`", "one of its models"),
        ({"params.json": {}, "consolidated.00.pth": b"x"}, "in its authors' own format", "convert it"),
        ({"config.json": CONFIG, "tf_model.h5": b"x"}, "TensorFlow", "safetensors"),
        ({"a.gguf": b"x"}, "has no `config.json`", "a.gguf"),
        ({"checkpoint-5/config.json": CONFIG}, "has no `config.json`", "checkpoint-5`?"),
        ({"snapshots/abc/config.json": CONFIG}, "has no `config.json`", "snapshots/abc`?"),
        ({"config.json": CONFIG}, "contains no weights", "download the model again"),
        ({"config.json": CONFIG, "a.safetensors": b"x"}, "no weights", "it contains `a.safetensors`"),
        (
            {"config.json": CONFIG, "model-00001-of-00002.safetensors": b"x"},
            "shards such as `model-00001-of-00002.safetensors`, but no"
            " `model.safetensors.index.json`",
            "download the index",
        ),
        (
            {
                "config.json": CONFIG,
                "model.safetensors.index.json": {
                    "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}
                },
            },
            "m-1.safetensors` is missing: the index names it (2 of 2 shards are missing)",
            "download the missing shards",
        ),
        ({"config.json": CONFIG, "model.safetensors": POINTER}, "a git-LFS pointer", "lfs pull"),
        ({"config.json": CONFIG, "pytorch_model.bin": POINTER}, "a git-LFS pointer", "lfs pull"),
        ({"config.json": CONFIG, "model.safetensors": PAGE}, "a web page", "hf download"),
        ({"config.json": POINTER}, "a git-LFS pointer", "lfs pull"),
        ({"config.json": PAGE}, "a web page", "hf download"),
        ({"config.json": b"[" * 100_000}, "nested too deeply", "fix it"),
        ({"config.json": b"\xe9"}, "not UTF-8 text", "iconv"),
    ],
)  # fmt: skip
def test_what_a_folder_holds_is_named_with_a_way_out(tmp_path, files, message, hint):
    told, way_out = refusal(tmp_path / "model", **files)
    assert message in told
    assert hint in way_out


def test_a_gguf_file_that_was_not_downloaded_is_named(tmp_path):
    (tmp_path / "a.gguf").write_bytes(POINTER)
    with pytest.raises(InputError, match="a git-LFS pointer"):
        resolve(str(tmp_path / "a.gguf"), revision=None, search=[])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_in_the_files_of_a_model_change_nothing(tmp_path, encoding):
    model, tokenizer = tiny(), word_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    plain = read_model(tmp_path, None).state_dict(), read_tokenizer(tmp_path)("the people")
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert resolve(str(tmp_path), revision=None, search=[]).model_type == "llama"
    marked = read_model(tmp_path, None).state_dict()
    assert plain[0].keys() == marked.keys()
    assert all(bool((marked[name] == plain[0][name]).all()) for name in marked)
    assert read_tokenizer(tmp_path)("the people") == plain[1]


@pytest.mark.parametrize(
    ("name", "content", "installed", "message", "hint"),
    [
        ("tokenizer.model", b"\n\x0e\n\x05<unk>", (), "a SentencePiece file", "[sentencepiece]"),
        ("spiece.model", b"\n\x0e\n\x05<unk>", (), "a SentencePiece file", "tokenizer.json"),
        (
            "sentencepiece.bpe.model", b"\n\x0e\n\x05<unk>", ("sentencepiece",),
            "`protobuf` is not installed", "[sentencepiece]",
        ),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", (), "a tiktoken file", "pip install 'tiktoken'"),
    ],
)  # fmt: skip
def test_a_tokenizer_of_a_missing_library_names_what_to_install(
    tmp_path, monkeypatch, name, content, installed, message, hint
):
    monkeypatch.setattr(tokenizer_files, "_installed", lambda module: module in installed)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MissingExtraError, match=message) as error:
        read_tokenizer(tmp_path)
    assert hint in error.value.hint
    assert "download" not in error.value.hint


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"tokenizer.json": POINTER}, "a git-LFS pointer", "lfs pull"),
        ({"tokenizer.json": PAGE}, "a web page", "hf download"),
        ({"tokenizer.model": POINTER}, "a git-LFS pointer", "lfs pull"),
        ({"tokenizer.json": b"{"}, "cannot be read", "same checkpoint"),
    ],
)
def test_a_damaged_tokenizer_is_named(tmp_path, files, message, hint):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_tokenizer(tmp_path)
    assert hint in error.value.hint


@pytest.mark.parametrize("value", [{}, [], "long"])
def test_a_setting_of_a_tokenizer_that_fails_when_it_encodes(tmp_path, value):
    word_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": value}))
    with pytest.raises(InputError, match="cannot be read"):
        read_tokenizer(tmp_path)


def test_a_tokenizer_of_a_newer_library_is_not_said_to_be_damaged(tmp_path):
    word_tokenizer().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["type"] = "Invented"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot be read") as error:
        read_tokenizer(tmp_path)
    assert "pip install -U tokenizers" in error.value.hint


def test_a_sentencepiece_file_that_fails_does_not_send_to_tiktoken(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_files, "_installed", lambda module: True)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(InputError, match=r"`tokenizer.model` is damaged, or `sentencepiece`") as no:
        read_tokenizer(tmp_path)
    assert "tiktoken" not in str(no.value) + no.value.hint


def test_a_folder_without_tokenizer_files_has_no_tokenizer(tmp_path):
    assert read_tokenizer(tmp_path) is None
