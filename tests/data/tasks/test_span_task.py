"""Questions about long contexts: windows, the answer's tokens, and the way back to text."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hugging_face_runner import HuggingFaceRunner
from subword_tokenizer import subword_tokenizer
from tiny_encoder import tiny_encoder

from numprune_export.core.errors import InputError
from numprune_export.data.tasks.choice import task_of
from numprune_export.data.tasks.evaluate import Run
from numprune_export.data.tasks.span_decoding import Candidate, best_answer, candidates

CONTEXT = (
    "the people of the union work. " * 6
    + "Ann is in the good city of state. "
    + "bad work is bad. " * 4
)
SMALL = {"max_length": 32, "stride": 8}


def question(answer, text="where is the city", context=CONTEXT):
    answers = (
        {"text": [answer], "answer_start": [context.index(answer)]}
        if answer
        else {"text": [], "answer_start": []}
    )
    return {"question": text, "context": context, "answers": answers}


@pytest.fixture(scope="module")
def model():
    return tiny_encoder("bert", "span")


class Knowing:
    """Points where it is told to, for every window: whatever comes back is decoding's work."""

    def __init__(self, encoded, labels):
        self.rows = {
            row.tobytes(): label for row, label in zip(encoded.windows.tokens, labels, strict=True)
        }
        self.width = encoded.windows.tokens.shape[1]

    def forward(self, tokens, lengths=None, types=None):
        logits = np.zeros((*tokens.shape, 2), dtype=np.float32)
        for index, row in enumerate(tokens):
            whole = np.zeros(self.width, dtype=np.int64)
            whole[: len(row)] = row
            start, end = self.rows[whole.tobytes()][:2]
            logits[index, start, 0] = logits[index, end, 1] = 5 if start else 1
        return logits


@pytest.mark.parametrize(
    "answer", ["the good city of state", "Ann", "state", "bad work is bad. bad"]
)
def test_labels_are_the_answers_tokens_in_the_windows_that_hold_it(model, jsonl, load, answer):
    _, encoded = load(model, jsonl([question(answer)], **SMALL), "span")
    tokenizer, held = subword_tokenizer(), 0
    assert len(encoded) > 3
    for tokens, (start, end, length), offsets in zip(
        encoded.windows.tokens, encoded.labels, encoded.questions.offsets, strict=True
    ):
        covered = offsets[offsets[:, 0] >= 0]
        where = CONTEXT.index(answer)
        inside = covered[0, 0] <= where and where + len(answer) <= covered[-1, 1]
        assert (start > 0) == inside
        if inside:
            held += 1
            text = CONTEXT[offsets[start, 0] : offsets[end, 1]]
            assert text == answer
            assert (
                tokenizer.decode(tokens[start : end + 1]).replace(" ", "").replace("##", "").lower()
                == answer.replace(" ", "").lower()
            )
        assert (tokens[length:] == 0).all()
    assert held >= 1


def test_windows_cover_the_context_and_share_the_stride(model, jsonl, load):
    _, encoded = load(model, jsonl([question("Ann")], **SMALL), "span")
    places = [
        {tuple(offset) for offset in offsets if offset[0] >= 0}
        for offsets in encoded.questions.offsets
    ]
    whole = subword_tokenizer()(CONTEXT, add_special_tokens=False, return_offsets_mapping=True)
    assert set.union(*places) == {tuple(offset) for offset in whole["offset_mapping"]}
    assert [len(a & b) for a, b in pairwise(places)] == [8] * (len(places) - 1)
    assert encoded.windows.types[0].tolist()[:6] == [0] * 6
    assert encoded.windows.types[0].sum() == (encoded.questions.offsets[0, :, 0] >= 0).sum() + 1


def test_a_model_that_points_at_the_answers_scores_1(model, jsonl, load):
    rows = [
        question("the good city of state", "where is it"),
        question("Ann", "is ann good"),
        question(None, "is it bad"),
        question("bad work", "state the work"),
    ]
    task, encoded = load(model, jsonl(rows, **SMALL), "span")
    evaluation = task.evaluate(Knowing(encoded, encoded.labels), encoded)
    assert {name: score.value for name, score in evaluation.measures.items() if name != "loss"} == {
        "f1": 1, "exact_match": 1, "f1_answerable": 1, "f1_unanswerable": 1
    }  # fmt: skip
    assert evaluation.measures["f1"].examples == 4
    assert evaluation.measures["loss"].examples == len(encoded)
    nothing = np.zeros_like(encoded.labels)
    evaluation = task.evaluate(Knowing(encoded, nothing), encoded)
    assert evaluation.measures["f1"].value == 0.25
    assert evaluation.measures["f1_unanswerable"].value == 1


def test_without_unanswerable_questions_there_is_always_an_answer(model, jsonl, load):
    task, encoded = load(model, jsonl([question("Ann"), question("city")], **SMALL), "span")
    assert not encoded.questions.may_be_unanswerable
    evaluation = task.evaluate(HuggingFaceRunner(model), encoded)
    assert set(evaluation.measures) == {"f1", "exact_match", "loss"}


def test_losses_do_not_depend_on_padding(model, jsonl, load):
    task, encoded = load(model, jsonl([question("Ann")], **SMALL), "span")
    runner, losses = HuggingFaceRunner(model), []
    for row in range(len(encoded)):
        batch = encoded.batch(np.array([row]))
        logits = runner.forward(batch.windows.tokens, batch.windows.lengths, batch.windows.types)
        losses.append(task.loss(torch.from_numpy(logits), torch.from_numpy(batch.labels)).item())
        start, end, _ = batch.labels[0]
        probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(0)
        by_hand = -(np.log(probabilities[start, 0]) + np.log(probabilities[end, 1])) / 2
        assert losses[-1] == pytest.approx(by_hand, rel=1e-5)
    assert len(set(encoded.windows.lengths)) > 1
    whole = task.evaluate(runner, encoded, Run(batch=len(encoded))).measures["loss"].value
    assert whole == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_best_span_is_ordered_short_enough_and_in_the_context():
    offsets = np.array([[-1, -1], [-1, -1], *[[10 * i, 10 * i + 9] for i in range(60)]])
    logits = np.zeros((62, 2), dtype=np.float32)
    logits[1] = 50  # in the question
    logits[40, 0], logits[5, 1] = 7, 9  # would end before it starts
    logits[10, 0], logits[45, 1] = 8, 8  # 36 tokens
    logits[12, 1] = 3
    (null, best) = candidates(logits, offsets)
    spans = [
        (logits[s, 0] + logits[e, 1], s, e) for s in range(2, 62) for e in range(s, min(s + 30, 62))
    ]
    assert best.score == max(spans)[0]
    assert null.score == 0


def test_there_is_no_answer_only_if_it_is_likelier_than_any():
    nulls = [Candidate(5.0, -1, -1), Candidate(2.0, -1, -1)]
    span = Candidate(3.0, 0, 3)
    assert best_answer([*nulls, span], "Ann is", may_be_none=True) == "Ann"
    assert best_answer([nulls[0], span], "Ann is", may_be_none=True) == ""
    assert best_answer([nulls[0], span], "Ann is", may_be_none=False) == "Ann"
    assert best_answer(nulls, "Ann is", may_be_none=False) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": {"text": ["Bob"], "answer_start": [0]}}, "answer `Bob` is not at character 0"),
        ({"answers": {"text": ["Ann"], "answer_start": [-1]}}, "is not at character -1"),
        ({"answers": {"text": ["Ann"]}}, "no answers in SQuAD form"),
        ({"answers": {"text": ["Ann"], "answer_start": []}}, "no answers in SQuAD form"),
        ({"answers": "Ann"}, "no answers in SQuAD form"),
        ({"answers": None}, "has no label under `answers`"),
        ({"question": ""}, "has no text under `question`"),
        ({"context": None}, "has no text under `context`"),
        ({"question": "where " * 30}, "leaves no room for its context"),
    ],
)  # fmt: skip
def test_an_unusable_question_is_named(model, jsonl, load, changes, message):
    with pytest.raises(InputError, match=f"line 1 of .*{message}"):
        load(model, jsonl([{**question("Ann"), **changes}], **SMALL), "span")


def test_questions_without_any_answer_measure_nothing(model, jsonl, load):
    task, encoded = load(model, jsonl([question(None)] * 3, **SMALL), "span")
    with pytest.raises(InputError, match="same label, `no answer`"):
        task.require_varied(encoded)


def test_both_forms_of_answers_and_squads_own_file_give_the_same(model, jsonl, load, tmp_path):
    row = question("Ann")
    listed = {**row, "answers": [{"text": "Ann", "answer_start": CONTEXT.index("Ann")}]}
    paragraph = {
        "context": CONTEXT,
        "qas": [{"id": "q", "question": row["question"], "answers": listed["answers"]}],
    }
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    data = jsonl([row, listed], **SMALL)
    _, encoded = load(model, data.model_copy(update={"files": (*data.files, "dev.json")}), "span")
    first, second, third = (
        encoded.labels[encoded.questions.question_of == index] for index in range(3)
    )
    assert (first == second).all()
    assert (first == third).all()


def test_unlabelled_questions_have_windows_alone(model, jsonl, load):
    row = {"question": "where", "context": CONTEXT}
    _, encoded = load(model, jsonl([row], **SMALL), "span", labelled=False)
    assert encoded.labels is None
    assert encoded.questions.answers is None
    assert task_of("span", model.config).kind == "span"
