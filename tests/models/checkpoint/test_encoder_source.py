"""Encoders as they are published: what is read, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoder import tiny_encoder
from transformers import BertConfig, BertForMaskedLM, BertModel

from numprune_export.core.errors import InputError, NumericalError, UnsupportedModelError
from numprune_export.models.checkpoint.load import load_source, load_tokenizer
from numprune_export.models.checkpoint.reload_probe import logits_of
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.checkpoint.tensor_check import leftovers
from numprune_export.models.families import ENCODERS

TOKENS = {"tokens": torch.tensor([[5, 6, 7, 8]])}
CONFIG = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 101}


def find(folder):
    return resolve(str(folder), revision=None, search=[])


def read(folder):
    return load_source(find(folder), torch.float32)


def edit_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


@pytest.fixture
def published(tmp_path):
    def write(model):
        model.save_pretrained(tmp_path / "published")
        return tmp_path / "published"

    return write


@pytest.mark.parametrize("task", ["sequence", "token", "span"])
@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_a_published_encoder_is_read_with_its_head(model_type, task, published):
    model = tiny_encoder(model_type, task)
    folder = published(model)
    loaded = read(folder)
    assert loaded.source.family is loaded.family is ENCODERS[model_type]
    assert loaded.source.architectures == (type(model).__name__,)
    assert loaded.tokenizer is None
    assert torch.equal(logits_of(loaded.model, TOKENS), logits_of(model, TOKENS))


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_another_head_or_none_is_refused_before_weights_are_read(kind, published):
    folder = published(kind(BertConfig(**CONFIG, intermediate_size=48)))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModelError, match=f"`{kind.__name__}`"):
        find(folder)


@pytest.mark.parametrize(
    "labels", [{"num_labels": 3}, {"id2label": {"0": "start", "1": "end", "2": "neither"}}]
)
def test_a_span_has_a_start_and_an_end_and_nothing_else(labels, published):
    folder = published(tiny_encoder("bert", "span"))
    edit_config(folder, **labels)
    with pytest.raises(UnsupportedModelError, match="with 3 outputs per token"):
        find(folder)


def test_an_encoder_without_its_class_name_is_refused(published):
    folder = published(tiny_encoder("bert"))
    edit_config(folder, architectures=None)
    with pytest.raises(UnsupportedModelError, match="has no `architectures`"):
        find(folder)


def test_the_wrong_head_for_the_weights_is_an_input_error(published):
    folder = published(tiny_encoder("bert", "token"))
    edit_config(folder, architectures=["BertForQuestionAnswering"], id2label={"0": "a", "1": "b"})
    with pytest.raises(InputError, match=r"missing tensors.*`qa_outputs\.bias`"):
        read(folder)


def test_the_wrong_number_of_labels_is_an_input_error(published):
    folder = published(tiny_encoder("bert", "token"))
    names = {str(index): f"L{index}" for index in range(6)}
    edit_config(folder, id2label=names, label2id={name: int(at) for at, name in names.items()})
    with pytest.raises(InputError, match=r"mismatched tensors.*`classifier\.bias`"):
        read(folder)


def test_an_encoder_made_into_a_decoder_is_refused(published):
    folder = published(tiny_encoder("bert"))
    edit_config(folder, is_decoder=True)
    with pytest.raises(UnsupportedModelError, match="converted to a decoder"):
        find(folder)


def test_what_a_token_tagger_was_published_with_and_never_reads_is_left_behind(published):
    model = tiny_encoder("bert", "token")
    folder = published(model)
    extra = {
        "bert.pooler.dense.weight": torch.ones(32, 32),
        "bert.pooler.dense.bias": torch.ones(32),
        "bert.embeddings.position_ids": torch.arange(64)[None],
    }
    edit_weights(folder, lambda tensors: tensors | extra)
    assert torch.equal(logits_of(read(folder).model, TOKENS), logits_of(model, TOKENS))


@pytest.mark.parametrize(
    ("model_type", "task", "name"),
    [
        ("bert", "sequence", "cls.predictions.transform.dense.weight"),
        ("bert", "span", "cls.seq_relationship.bias"),
        ("roberta", "token", "lm_head.dense.weight"),
        ("distilbert", "sequence", "vocab_projector.bias"),
    ],
)
def test_the_head_of_pre_training_is_left_out_and_named(published, model_type, task, name):
    model = tiny_encoder(model_type, task)
    folder = published(model)
    assert leftovers(find(folder).weights, model_type) == []
    edit_weights(folder, lambda tensors: tensors | {name: torch.ones(3)})
    assert torch.equal(logits_of(read(folder).model, TOKENS), logits_of(model, TOKENS))
    assert leftovers(find(folder).weights, model_type) == [name]


def test_any_other_tensor_too_many_is_an_input_error(published):
    folder = published(tiny_encoder("bert", "token"))
    extra = {"bert.encoder.layer.3.output.dense.bias": torch.ones(32)}
    edit_weights(folder, lambda tensors: tensors | extra)
    with pytest.raises(InputError, match=r"1 unexpected tensors.*layer\.3\.output"):
        read(folder)


def test_the_names_that_bert_was_first_published_under_are_known(published):
    model = tiny_encoder("bert")
    folder = published(model)

    def old(name):
        at = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return at.replace("LayerNorm.bias", "LayerNorm.beta")

    edit_weights(folder, lambda tensors: {old(name): tensor for name, tensor in tensors.items()})
    assert any("gamma" in name for name in load_file(folder / "model.safetensors"))
    assert torch.equal(logits_of(read(folder).model, TOKENS), logits_of(model, TOKENS))


def test_a_vocabulary_alone_is_a_tokenizer_and_part_of_the_fingerprint(published):
    folder = published(tiny_encoder("bert"))
    before = find(folder).fingerprint()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    source = find(folder)
    assert load_tokenizer(source)("Good film")["input_ids"] == [2, 5, 6, 3]
    with_vocabulary = source.fingerprint()
    (folder / "vocab.txt").write_text("\n".join([*words, "bad"]))
    assert len({before, with_vocabulary, find(folder).fingerprint()}) == 3


def test_a_tokenizer_of_an_encoder_comes_along(published, saved):
    folder = published(tiny_encoder("bert"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    loaded = read(folder)
    again = read(saved(loaded.model, loaded.tokenizer)).tokenizer
    assert again("Good film", "film")["input_ids"] == [2, 5, 6, 3, 6, 3]
    assert again("Good film", "film")["token_type_ids"] == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(value, published):
    model = tiny_encoder("distilbert")
    model.pre_classifier.bias.data[3] = value
    with pytest.raises(NumericalError, match=r"`pre_classifier\.bias`"):
        read(published(model))


def test_an_encoder_in_a_gguf_file_is_refused_by_name(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "bert.gguf", "bert")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModelError, match="contains the encoder `bert`"):
        find(tmp_path / "bert.gguf")


@pytest.mark.parametrize("labels", [5, "yes", ["no", "yes"]])
def test_labels_that_are_no_names(labels, published):
    folder = published(tiny_encoder("bert", "span"))
    edit_config(folder, id2label=labels)
    with pytest.raises(InputError, match=r"`id2label` in .* is not an object"):
        find(folder)


def test_positions_cannot_count_from_a_padding_token_that_is_none(published):
    folder = published(tiny_encoder("roberta", "sequence"))
    edit_config(folder, pad_token_id=None)
    with pytest.raises(InputError, match="positions count from `pad_token_id`, which is `None`"):
        load_source(find(folder), torch.float32)
