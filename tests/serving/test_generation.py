"""Batches in lockstep: each row is answered as if it were alone, whatever its neighbours do."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import uneven
from words import WORDS, word_tokenizer

from numprune_export.core.errors import DeviceError, InputError
from numprune_export.export.artifact import Artifact
from numprune_export.models.families import FAMILIES
from numprune_exporters.onnx.open import open_artifact
from numprune_exporters.onnx.target import OnnxExporter, OnnxSettings
from numprune_exporters.triton.served.generation import Row, generate
from numprune_exporters.triton.served.opening import Served
from numprune_exporters.triton.served.request import Request
from numprune_exporters.triton.served.text_tokenizer import TextTokenizer

CAPACITY = 24


class Recorder:
    """A client that keeps what it is sent."""

    def __init__(self, patience=10**6):
        self.pieces, self.error, self._patience = [], None, patience

    def cancelled(self):
        self._patience -= 1
        return self._patience < 0

    def send(self, piece):
        assert self.error is None
        assert not self.pieces or self.pieces[-1].finish_reason is None
        self.pieces.append(piece)

    def fail(self, error):
        self.error = error

    @property
    def tokens(self):
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def reason(self):
        return self.pieces[-1].finish_reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer of twelve words and a model of as many tokens, whose end token never comes."""
    place = tmp_path_factory.mktemp("words")
    word_tokenizer().save_pretrained(place)
    (place / "config.json").write_text('{"eos_token_id": null}')
    return place


@pytest.fixture(scope="module", params=["gqa", "standard"])
def served(request, folder, tmp_path_factory):
    model = uneven(vocab_size=len(WORDS))
    place = tmp_path_factory.mktemp(request.param)
    OnnxExporter().export(
        FAMILIES["llama"].decoder(model), place, OnnxSettings(graph=request.param)
    )
    with open_artifact(Artifact.load(place), threads=1, capacity=CAPACITY) as runner:
        yield Served(runner, TextTokenizer(folder), CAPACITY, CAPACITY, 5)


def answer(served, *asked):
    """Each `asked` is a prompt and a limit, or a Request; all in one batch."""
    clients = [Recorder() for _ in asked]
    requests = [request if isinstance(request, Request) else Request(*request) for request in asked]
    rows = [Row(*pair, served) for pair in zip(requests, clients, strict=True)]
    generate(served, rows)
    return clients


def greedy(served, prompt, steps):
    """Tokens by the runner alone, without the code under test."""
    logits = served.runner.prefill(np.array([served.tokenizer.encode(prompt)]))
    token_ids = []
    for _ in range(steps):
        token_ids.append(int(logits[0].argmax()))
        if len(token_ids) < steps:
            logits = served.runner.decode(np.array(token_ids[-1:]))
    return token_ids


def test_rows_of_a_batch_are_answered_as_alone(served):
    asked = [("the people of the union", 9), ("we", 4), ("the state of the people will work", 12)]
    expected = [greedy(served, prompt, steps) for prompt, steps in asked]
    got = answer(served, *asked)
    assert [client.tokens for client in got] == expected
    assert [client.reason for client in got] == ["length"] * 3
    assert got[0].pieces[0].text == served.tokenizer.decode(expected[0])
    assert got[0].pieces[0].prompt_tokens == 5
    assert got[0].pieces[0].generated_tokens == 9


def test_a_done_row_that_would_outgrow_the_cache_leaves_the_batch(served):
    long = " ".join(["the people"] * 11)
    asked = [(long, 99), ("we will", 20), (long + " and", 1)]
    expected = [
        greedy(served, prompt, min(n, CAPACITY - len(prompt.split()) + 1)) for prompt, n in asked
    ]
    got = answer(served, *asked)
    assert [client.tokens for client in got] == expected
    assert [client.error for client in got] == [None] * 3


def test_who_is_left_of_a_batch_stays_together(served):
    long = " ".join(["the people"] * 11)
    sizes = []
    watched = Picky(served.runner, lambda tokens: sizes.append(len(tokens)), None)
    answer(replace(served, runner=watched), (long, 99), ("we will", 15), ("of the state", 14))
    assert sizes == [3, 2]


@pytest.mark.parametrize("longest", [1, 3, 21])
def test_what_one_prefill_cannot_take_is_read_on_by_decoding(served, longest):
    long = " ".join(["the people"] * 11)
    asked = [(long, 99), ("we will", 20), ("of the state", 9)]
    calls = []

    def refuses(tokens):
        calls.append(tokens.shape[1])
        return tokens.shape[1] > longest

    picky = Picky(served.runner, refuses, InputError("too long", hint="shorter"))
    expected = [client.tokens for client in answer(served, *asked)]
    got = answer(replace(served, runner=picky, longest_prompt=longest), *asked)
    assert [client.tokens for client in got] == expected
    assert max(calls) == longest


def test_a_prompt_that_fills_the_cache_still_gets_one_token(served):
    full = " ".join(["work"] * CAPACITY)
    (got,) = answer(served, (full, 5))
    assert got.tokens == greedy(served, full, 1)
    assert got.reason == "length"


def test_streaming_sends_each_token_and_the_same_text(served):
    asked = Request("the state", 8, stream=True), Request("the state", 8)
    streamed, whole = answer(served, *asked)
    assert [piece.tokens for piece in streamed.pieces] == [(token,) for token in whole.tokens]
    assert [piece.generated_tokens for piece in streamed.pieces] == list(range(1, 9))
    assert [piece.finish_reason for piece in streamed.pieces] == [None] * 7 + ["length"]
    assert "".join(piece.text for piece in streamed.pieces) == whole.pieces[0].text


def test_an_end_token_ends_the_text_and_is_not_told(served, folder, tmp_path):
    tokens = greedy(served, "we", 8)
    end = next(token for token in tokens if token != tokens[0])
    word_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"eos_token_id": 11}')
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": [{end}, 1]}}')
    ending = replace(served, tokenizer=TextTokenizer(tmp_path))
    (got,) = answer(ending, ("we", 8))
    assert got.tokens == tokens[: tokens.index(end)]
    assert got.reason == "stop"


def test_a_cancelled_row_stops_and_the_others_go_on(served):
    leaving, staying = Recorder(patience=3), Recorder()
    rows = [
        Row(Request("we will", 9, stream=True), client, served) for client in (leaving, staying)
    ]
    generate(served, rows)
    assert leaving.reason == "cancelled"
    assert leaving.tokens == staying.tokens[:3]
    assert len(staying.tokens) == 9


@pytest.mark.parametrize(
    ("prompt", "message"), [("", "no tokens"), (" ".join(["we"] * 25), "has `25` tokens")]
)
def test_a_prompt_that_does_not_fit_is_refused_before_the_batch(served, prompt, message):
    with pytest.raises(InputError, match=message):
        Row(Request(prompt, 3), Recorder(), served)


class Picky:
    """A runner that refuses some batches, around one that works."""

    def __init__(self, runner, refuses, error):
        self._runner, self._refuses, self._error = runner, refuses, error

    def prefill(self, tokens, lengths=None, *, all_positions=False):
        if self._refuses(tokens):
            raise self._error
        return self._runner.prefill(tokens, lengths)

    def decode(self, tokens):
        return self._runner.decode(tokens)


def test_what_a_runner_refuses_fails_alone(served):
    error = InputError("too long for this engine", hint="shorter")
    picky = Picky(served.runner, lambda tokens: tokens.shape[1] > 4, error)
    clients = [Recorder() for _ in range(3)]
    prompts = ["we will", "the people of the union will work", "the union"]
    rows = [Row(Request(p, 4), client, served) for p, client in zip(prompts, clients, strict=True)]
    generate(replace(served, runner=picky), rows)
    assert clients[1].error is error
    for n in (0, 2):
        assert clients[n].tokens == greedy(served, prompts[n], 4)


def test_a_device_that_fails_fails_the_whole_batch_once(served):
    error = DeviceError("out of memory", hint="smaller batch")
    clients = answer_with(Picky(served.runner, lambda _: True, error), served)
    assert [client.error for client in clients] == [error, error]
    assert [client.pieces for client in clients] == [[], []]


def answer_with(runner, served):
    clients = [Recorder(), Recorder()]
    rows = [Row(Request("we", 3), client, served) for client in clients]
    generate(replace(served, runner=runner), rows)
    return clients
