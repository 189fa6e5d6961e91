"""Words with tags: where a tag is placed, what is scored, what is refused."""

import numpy as np
import pytest
import torch
from hugging_face_runner import HuggingFaceRunner
from subword_tokenizer import subword_tokenizer
from tiny_encoder import tiny_encoder
from tokenizers import pre_tokenizers

from numprune_export.core.errors import InputError
from numprune_export.data.labelled.encoded import UNSCORED

NAMES = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
LABELS = {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}}
WORDS = ("the", "people", "cat", "union", "state", "dog", "of")


@pytest.fixture(scope="module")
def model():
    return tiny_encoder("bert", "token", **LABELS)


def sentences(count, seed=0):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 8, count)
    return [
        {"words": draw.choice(WORDS, n).tolist(), "tags": draw.choice(list(NAMES.values()), n).tolist()}
        for n in lengths
    ]  # fmt: skip


def test_a_tag_stands_at_its_words_first_token(model, jsonl, load):
    rows = [
        {"words": ["the", "cat", "of", "dogs"], "tags": ["O", "B-PER", 0, "I-LOC"]},
        {"words": ["union"], "tags": ["B-LOC"]},
    ]
    _, encoded = load(model, jsonl(rows), "token")
    tokens = subword_tokenizer().convert_ids_to_tokens(encoded.windows.tokens[0])
    assert tokens == ["[CLS]", "the", "c", "##a", "##t", "of", "d", "##o", "##g", "##s", "[SEP]"]
    no = UNSCORED
    assert encoded.labels[0].tolist() == [no, 0, 1, no, no, 0, 4, no, no, no, no]
    assert encoded.labels[1].tolist() == [no, 3, *[no] * 9]


def test_words_and_tags_may_be_text_with_blanks(model, jsonl, load):
    whole = {"words": ["the", "cat"], "tags": ["O", "B-PER"]}
    text = {"words": "the cat", "tags": "O B-PER"}
    _, encoded = load(model, jsonl([whole, text]), "token")
    assert (encoded.labels[0] == encoded.labels[1]).all()
    assert (encoded.windows.tokens[0] == encoded.windows.tokens[1]).all()


def test_cut_words_are_not_scored(model, jsonl, load):
    row = {"words": ["the"] * 20, "tags": ["O", "B-PER"] * 10}
    _, encoded = load(model, jsonl([row], max_length=12), "token")
    assert encoded.cut == 1
    assert (encoded.labels != UNSCORED).sum() == 10


def test_scores_are_those_of_the_words_alone(model, jsonl, load):
    rows = sentences(20)
    task, encoded = load(model, jsonl(rows, batch=6), "token")
    evaluation = task.evaluate(HuggingFaceRunner(model), encoded)
    right = words = 0
    losses = []
    for row in rows:
        tokens = subword_tokenizer()(row["words"], is_split_into_words=True, return_tensors="pt")
        starts = [tokens.word_ids().index(word) for word in range(len(row["words"]))]
        with torch.no_grad():
            logits = model(input_ids=tokens["input_ids"]).logits[0, starts]
        gold = torch.tensor([LABELS["label2id"][tag] for tag in row["tags"]])
        right += int((logits.argmax(1) == gold).sum())
        words += len(gold)
        losses.append(torch.nn.functional.cross_entropy(logits, gold).item())
    metrics = evaluation.metrics()
    assert metrics["accuracy"].value == pytest.approx(right / words)
    assert metrics["loss"].value == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics["accuracy"].conditions["words"] == words
    assert metrics["f1"].low <= metrics["f1"].value <= metrics["f1"].high


def test_a_model_that_is_right_finds_every_entity(model, jsonl, load):
    rows = sentences(12)
    task, encoded = load(model, jsonl(rows), "token")
    runner, windows = HuggingFaceRunner(model), encoded.windows
    answers = runner.forward(windows.tokens, windows.lengths).argmax(2)
    for row, answer, labels in zip(rows, answers, encoded.labels, strict=True):
        row["tags"] = [NAMES[tag] for tag in answer[labels != UNSCORED]]
    task, encoded = load(model, jsonl(rows), "token")
    metrics = task.evaluate(runner, encoded).metrics()
    assert (metrics["f1"].value, metrics["accuracy"].value) == (1, 1)
    assert metrics["f1"].conditions["entities"] > 5


def test_the_tag_that_marks_nothing_can_be_named(jsonl, load):
    names = {0: "$KEEP", 1: "$FIX", 2: "$DROP", 3: "X", 4: "Y"}
    model = tiny_encoder("bert", "token", id2label=names, label2id={v: k for k, v in names.items()})
    rows = [{"words": row["words"], "tags": ["$KEEP"] * len(row["words"])} for row in sentences(6)]
    rows[0]["tags"][0] = "$FIX"
    task, encoded = load(model, jsonl(rows, outside="$KEEP"), "token")
    evaluation = task.evaluate(HuggingFaceRunner(model), encoded)
    assert evaluation.conditions["entities"] == 1
    task, encoded = load(model, jsonl(rows), "token")
    evaluation = task.evaluate(HuggingFaceRunner(model), encoded)
    assert evaluation.conditions["entities"] == evaluation.conditions["words"]
    assert evaluation.measures["f1"].value == pytest.approx(evaluation.measures["accuracy"].value)


def test_labels_of_all_examples_fit_a_narrower_batch(model, jsonl, load):
    task, encoded = load(model, jsonl(sentences(6)), "token")
    short = encoded.batch(np.argsort(encoded.windows.lengths)[:2])
    logits = HuggingFaceRunner(model).forward(short.windows.tokens, short.windows.lengths)
    whole = torch.from_numpy(encoded.labels[short.rows])
    assert whole.shape[1] > logits.shape[1]
    losses = [
        task.loss(torch.from_numpy(logits), labels)
        for labels in (whole, torch.from_numpy(short.labels))
    ]
    assert torch.equal(*losses)
    assert bool(losses[0].isfinite().all())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, "has 2 words and 1 tags"),
        ({"words": ["a"], "tags": 3}, "has 1 words and no list of tags"),
        ({"words": [], "tags": []}, "has no text under `words`"),
        ({"words": ["a", ""], "tags": ["O", "O"]}, "has no list of words"),
        ({"words": ["a"]}, "has no label under `tags`"),
        ({"words": ["a"], "tags": ["B-ORG"]}, "the model has no class `B-ORG`"),
        ({"words": ["a"], "tags": [7]}, "outside the model's 5 classes"),
        ({"text": "a", "tags": ["O"]}, "has no field `words`"),
    ],
)
def test_an_unusable_row_is_named(model, jsonl, load, row, message):
    with pytest.raises(InputError, match=f"line 1 of .*{message}"):
        load(model, jsonl([row]), "token")


def test_examples_without_any_entity_measure_nothing(model, jsonl, load):
    rows = [{"words": ["the", "cat"], "tags": ["O", "O"]}] * 3
    task, encoded = load(model, jsonl(rows), "token")
    with pytest.raises(InputError, match="all 3 labelled examples have the same label, `O`"):
        task.evaluate(HuggingFaceRunner(model), encoded)


def test_a_tokenizer_that_would_not_see_word_starts_is_refused(model, jsonl, load):
    tokenizer = subword_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InputError, match="blank before every word"):
        load(model, jsonl(sentences(2)), "token", tokenizer=tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    load(model, jsonl(sentences(2)), "token", tokenizer=tokenizer)
