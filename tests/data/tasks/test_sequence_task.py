"""Texts and pairs with one answer each: what is encoded, what is lost, what is scored."""

import numpy as np
import pytest
import torch
from hugging_face_runner import HuggingFaceRunner
from pydantic import ValidationError
from subword_tokenizer import subword_tokenizer
from tiny_encoder import VOCABULARY, tiny_encoder
from transformers import PythonBackend

from numprune_export.core.errors import (
    InputError,
    NumericalError,
    RecipeError,
    UnsupportedModelError,
)
from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.data.tasks.evaluate import Run
from numprune_export.data.tasks.task import headline

WORDS = ("the", "people", "good", "bad", "work", "union", "state", "cat")


def texts(count, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(count)]


def labelled(count, classes=5):
    return [{"text": text, "label": index % classes} for index, text in enumerate(texts(count))]


@pytest.fixture(scope="module")
def model():
    return tiny_encoder("bert", "sequence", seed=7)


def test_examples_are_tokenised_whole_with_special_tokens_and_padded_on_the_right(
    model, jsonl, load
):
    rows = labelled(12)
    _, encoded = load(model, jsonl(rows), "sequence")
    tokenizer = subword_tokenizer()
    for index, row in enumerate(rows):
        ids = tokenizer(row["text"])["input_ids"]
        length = encoded.windows.lengths[index]
        assert encoded.windows.tokens[index, :length].tolist() == ids
        assert (encoded.windows.tokens[index, length:] == tokenizer.pad_token_id).all()
        assert ids[0] == tokenizer.cls_token_id
        assert ids[-1] == tokenizer.sep_token_id
    assert encoded.windows.tokens.shape[1] == encoded.windows.lengths.max()
    assert encoded.windows.types is None
    assert encoded.labels.tolist() == [row["label"] for row in rows]
    assert encoded.cut == 0


def test_a_token_without_an_embedding_is_named_with_its_row(jsonl, load):
    model, tokenizer = tiny_encoder("bert", "sequence"), subword_tokenizer()
    tokenizer.add_tokens([f"word{index}" for index in range(VOCABULARY)])
    first = next(
        index for index in range(VOCABULARY) if tokenizer.vocab[f"word{index}"] >= VOCABULARY
    )
    rows = [{"text": "the people", "label": 0}, {"text": f"the word{first}", "label": 1}]
    with pytest.raises(InputError, match=rf"line 2 of .*token `word{first}` with id {VOCABULARY}"):
        load(model, jsonl(rows), "sequence", tokenizer=tokenizer)


def test_a_pad_token_without_an_embedding_is_not_looked_up(jsonl, load):
    model, tokenizer = tiny_encoder("bert", "sequence"), subword_tokenizer()
    tokenizer.add_tokens([f"word{index}" for index in range(VOCABULARY)])
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    assert tokenizer.pad_token_id >= VOCABULARY
    rows = [{"text": "the people of the city", "label": 0}, {"text": "the", "label": 1}]
    _, encoded = load(model, jsonl(rows), "sequence", tokenizer=tokenizer)
    assert encoded.windows.lengths[0] > encoded.windows.lengths[1]
    assert encoded.windows.tokens.max() < VOCABULARY


def test_a_pair_has_token_types_where_the_model_has_them(jsonl, load):
    rows = [{"a": "the people", "b": "good work", "label": 1}, {"a": "cat", "b": "the", "label": 0}]
    for model_type, typed in (("bert", True), ("distilbert", False), ("roberta", False)):
        model = tiny_encoder(model_type, "sequence", type_vocab_size=2 if typed else 1)
        _, encoded = load(model, jsonl(rows, fields=("a", "b")), "sequence")
        assert (encoded.windows.types is not None) == typed
    _, encoded = load(tiny_encoder(), jsonl(rows, fields=("a", "b")), "sequence")
    assert encoded.windows.types[0].tolist() == [0, 0, 0, 0, 1, 1, 1]
    first = encoded.windows.lengths[1]
    assert encoded.windows.types[1, first:].tolist() == [0] * (7 - first)


def test_what_is_too_long_is_cut_and_counted(model, jsonl, load):
    rows = [{"text": "the people " * 20, "label": 1}, {"text": "the", "label": 0}]
    _, encoded = load(model, jsonl(rows, max_length=16), "sequence")
    assert encoded.windows.lengths.tolist() == [16, 3]
    assert encoded.cut == 1
    assert encoded.windows.tokens[0, -1] == subword_tokenizer().sep_token_id
    with pytest.raises(RecipeError, match="`max_length: 128` exceeds the model's 64"):
        load(model, jsonl(rows, max_length=128), "sequence")


def test_losses_are_each_examples_own(model, jsonl, load):
    task, encoded = load(model, jsonl(labelled(6)), "sequence")
    batch = encoded.batch(np.arange(6))
    runner = HuggingFaceRunner(model)
    logits = runner.forward(batch.windows.tokens, batch.windows.lengths)
    losses = task.loss(torch.from_numpy(logits), torch.from_numpy(batch.labels))
    expected = -np.log(np.exp(logits)[np.arange(6), batch.labels] / np.exp(logits).sum(1))
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)
    with torch.no_grad():
        tokens = torch.from_numpy(batch.windows.tokens)
        mask = torch.arange(tokens.shape[1]) < torch.from_numpy(batch.windows.lengths)[:, None]
        output = model(
            input_ids=tokens, attention_mask=mask.long(), labels=torch.from_numpy(batch.labels)
        )
    assert task.loss(output, torch.from_numpy(batch.labels)).mean() == pytest.approx(
        output.loss.item(), rel=1e-5
    )


def test_scores_do_not_depend_on_batches_or_their_order(model, jsonl, load):
    task, encoded = load(model, jsonl(labelled(23)), "sequence")
    runners = [HuggingFaceRunner(model) for _ in range(2)]
    done = []
    whole = task.evaluate(runners[0], encoded, Run(batch=23))
    split = task.evaluate(runners[1], encoded, Run(batch=4, progress=done.append))
    for name, measure in whole.measures.items():
        assert split.measures[name].value == pytest.approx(measure.value, abs=1e-6), name
    assert sum(done) == 23
    widths = [shape[1] for shape in runners[1].shapes]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1] == encoded.windows.tokens.shape[1]
    metrics = split.metrics()
    assert set(metrics) == {"accuracy", "f1", "matthews", "loss"}
    assert metrics["accuracy"].samples == 23
    assert metrics["f1"].conditions["average"] == "macro"
    assert metrics["loss"].conditions["batch"] == 4


def test_a_model_that_is_right_scores_1(model, jsonl, load):
    rows = labelled(12)
    task, encoded = load(model, jsonl(rows), "sequence")
    windows, runner = encoded.windows, HuggingFaceRunner(model)
    answers = runner.forward(windows.tokens, windows.lengths).argmax(1)
    assert len(set(answers)) > 1
    right = [{**row, "label": f"LABEL_{answer}"} for row, answer in zip(rows, answers, strict=True)]
    task, encoded = load(model, jsonl(right), "sequence")
    metrics = task.evaluate(runner, encoded).metrics()
    assert [metrics[name].value for name in ("accuracy", "f1", "matthews")] == pytest.approx(
        [1] * 3
    )


def test_a_model_with_one_output_predicts_a_number(jsonl, load):
    model = tiny_encoder("bert", "sequence", num_labels=1)
    rows = [{"text": text, "label": index / 4} for index, text in enumerate(texts(9))]
    task, encoded = load(model, jsonl(rows, target_scale=2.0), "sequence")
    assert encoded.labels.dtype == np.float32
    assert encoded.labels.tolist() == [index / 8 for index in range(9)]
    runner = HuggingFaceRunner(model)
    metrics = task.evaluate(runner, encoded).metrics()
    logits = runner.forward(encoded.windows.tokens, encoded.windows.lengths)[:, 0]
    assert set(metrics) == {"spearman", "pearson", "loss"}
    assert metrics["loss"].value == pytest.approx(((logits - encoded.labels) ** 2).mean(), rel=1e-5)
    assert metrics["loss"].unit == "squared error"
    ranks = [np.argsort(np.argsort(numbers)) for numbers in (logits, encoded.labels)]
    assert metrics["spearman"].value == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert task_of(
        "sequence", tiny_encoder(problem_type="regression", num_labels=2).config
    ).regression


def test_several_labels_per_text_are_refused():
    config = tiny_encoder(problem_type="multi_label_classification").config
    with pytest.raises(UnsupportedModelError, match="multi_label"):
        task_of("sequence", config)


@pytest.mark.parametrize(
    "rows", [[{"text": "the", "label": 2}] * 4, [{"text": "the", "label": "LABEL_2"}] * 4]
)
def test_examples_that_all_have_one_label_measure_nothing(model, jsonl, load, rows):
    task, encoded = load(model, jsonl(rows), "sequence")
    with pytest.raises(InputError, match="all 4 labelled examples have the same label, `LABEL_2`"):
        task.require_varied(encoded)
    with pytest.raises(InputError, match="same label"):
        task.evaluate(HuggingFaceRunner(model), encoded)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "", "label": 1}, r"line 2 of .* has no text under `text`"),
        ({"text": " \n", "label": 1}, r"line 2 of .* has no text under `text`"),
        ({"text": 3, "label": 1}, r"line 2 of .* has a int under `text`, not a text"),
        ({"text": "x"}, r"line 2 of .* has no label under `label`"),
        ({"text": "x", "label": 5}, r"line 2 of .* outside the model's 5 classes"),
        ({"text": "x", "label": "spam"}, r"line 2 of .* the model has no class `spam`"),
        ({"label": 1}, r"line 2 of .* has no field `text`"),
    ],
)
def test_an_unusable_row_is_named(model, jsonl, load, row, message):
    with pytest.raises(InputError, match=message.replace(" the model has", ": the model has")):
        load(model, jsonl([{"text": "x", "label": 0}, row]), "sequence")


def test_rows_need_no_label_where_none_is_asked_for(model, jsonl, load):
    _, encoded = load(model, jsonl([{"text": "the people"}]), "sequence", labelled=False)
    assert encoded.labels is None
    (batch,) = encoded.batches(by_length=True)
    assert batch.labels is None
    assert isinstance(encoded.windows, Windows)


def test_three_fields_of_text_are_one_too_many(jsonl):
    with pytest.raises(ValidationError, match="at most 2"):
        jsonl(labelled(1), fields=("a", "b", "c"))


def test_the_score_that_counts_is_the_tasks_unless_named(model, jsonl, load):
    task, _ = load(model, jsonl(labelled(2)), "sequence")
    assert headline(task, jsonl(labelled(2))) == "accuracy"
    assert headline(task, jsonl(labelled(2), metric="matthews")) == "matthews"
    with pytest.raises(RecipeError, match="`metric: spearman` does not fit"):
        headline(task, jsonl(labelled(2), metric="spearman"))


def test_logits_that_are_no_numbers_are_an_error(model, jsonl, load):
    class Broken(HuggingFaceRunner):
        def forward(self, tokens, lengths=None, types=None):
            return super().forward(tokens, lengths, types) * np.nan

    task, encoded = load(model, jsonl(labelled(5)), "sequence")
    with pytest.raises(NumericalError, match="NaN"):
        task.evaluate(Broken(model), encoded)


def test_a_slow_tokenizer_is_refused(model):
    class Slow(PythonBackend):
        def get_vocab(self):
            return {}

        @property
        def vocab_size(self):
            return 0

    with pytest.raises(InputError, match="`Slow` is not a fast tokenizer"):
        Reading.of(Slow(), model.config, 64)
