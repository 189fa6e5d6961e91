"""Generate text for a batch of prompts: one right-padded prefill, then decode steps in lockstep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from numprune_export.core.errors import InputError, NumpruneError
from numprune_export.export.runner import Logits, Tokens
from numprune_exporters.triton.served.opening import Served
from numprune_exporters.triton.served.request import Request
from numprune_exporters.triton.served.sampling import Sampler
from numprune_exporters.triton.served.text_stream import TextStream

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Piece:
    """A part of a response, or all of it."""

    text: str
    tokens: tuple[int, ...]
    """Tokens since the previous piece, without the end-of-text token."""
    finish_reason: FinishReason | None
    """Set on the last piece. `stop`: end of text or a stop word; `length`: token limit reached."""
    prompt_tokens: int
    generated_tokens: int
    """Total so far, including this piece."""


class Client(Protocol):
    """Receives the response to one request."""

    def cancelled(self) -> bool: ...
    def send(self, piece: Piece) -> None: ...
    def fail(self, error: NumpruneError) -> None: ...


class Row:
    """One sequence of a batch."""

    def __init__(self, request: Request, client: Client, served: Served) -> None:
        """Tokenize the prompt.

        Raises:
            InputError: the prompt has no tokens or exceeds the capacity.
        """
        tokenizer, capacity = served.tokenizer, served.capacity
        self.tokens = tokenizer.encode(request.text_input)
        """Prompt and generated tokens."""
        self.done = False
        self._prompt_tokens = len(self.tokens)
        if not self.tokens:
            raise InputError("the prompt has no tokens", hint="send some text")
        if self._prompt_tokens > capacity:
            raise InputError(
                f"the prompt has `{self._prompt_tokens}` tokens, this server takes `{capacity}`",
                hint="send a shorter prompt, or package with a larger `capacity`",
            )
        # The last generated token is never read, so it needs no cache position.
        self._allowed = min(request.max_tokens, capacity - self._prompt_tokens + 1)
        self._request, self._client = request, client
        self._end_tokens = tokenizer.end_tokens
        self._sampler = Sampler(request)
        self._stream = TextStream(tokenizer, request.stop_words)
        self._text = "" if request.exclude_input_in_output else request.text_input
        self._generated: list[int] = []
        self._sent = 0

    def accept(self, logits: Logits) -> None:
        """Choose the next token from fp32 logits (vocabulary,), and send the text that is final."""
        if self._client.cancelled():
            self._finish("cancelled")
            return
        token = self._sampler.choose(logits)
        if token in self._end_tokens:
            self._finish("stop")
            return
        self.tokens.append(token)
        self._generated.append(token)
        self._text += self._stream.push(token)
        if self._stream.stopped:
            self._finish("stop")
        elif len(self._generated) == self._allowed:
            self._finish("length")
        elif self._request.stream and self._text:
            self._send(None)

    def fail(self, error: NumpruneError) -> None:
        """End this sequence with an error."""
        self.done = True
        self._client.fail(error)

    def _finish(self, reason: FinishReason) -> None:
        self.done = True
        self._text += self._stream.finish()
        self._send(reason)

    def _send(self, reason: FinishReason | None) -> None:
        new = tuple(self._generated[self._sent :])
        piece = Piece(self._text, new, reason, self._prompt_tokens, len(self._generated))
        self._text, self._sent = "", len(self._generated)
        self._client.send(piece)


def generate(served: Served, rows: Sequence[Row]) -> None:
    """Generate all rows. An error of the runner fails only the rows that cause it."""
    active = [row for row in rows if not row.done]
    try:
        while active:
            active = _lockstep(served, active)
    except InputError as error:
        unfinished = [row for row in active if not row.done]
        if len(unfinished) == 1:
            unfinished[0].fail(error)
            return
        for row in unfinished:
            generate(served, [row])
    except NumpruneError as error:
        for row in active:
            if not row.done:
                row.fail(error)


def _lockstep(served: Served, rows: Sequence[Row]) -> list[Row]:
    """Decode until all rows are done or a done row would exceed the cache; returns unfinished rows.

    The caller batches these again, so a row's text does not depend on its neighbours' lengths.
    """
    tokens, read = _right_padded(rows, served.longest_prompt)
    logits = served.runner.prefill(tokens, read)
    while True:
        for (row, count), values in zip(_pairs(rows, read), logits, strict=True):
            # Decode steps read the rest of a row longer than one prefill; its logits are ignored.
            if not row.done and count == len(row.tokens):
                row.accept(values)
        active = [row for row in rows if not row.done]
        if not active or read.max() == served.capacity:
            return active
        # A done row repeats its last token; its logits are ignored.
        following = [
            row.tokens[min(count, len(row.tokens) - 1)] for row, count in _pairs(rows, read)
        ]
        logits = served.runner.decode(np.array(following, np.int64))
        read += 1


def _pairs(rows: Sequence[Row], read: Tokens) -> Iterator[tuple[Row, int]]:
    return zip(rows, map(int, read), strict=True)


def _right_padded(rows: Sequence[Row], most: int) -> tuple[Tokens, Tokens]:
    """The first `most` tokens of each row (batch, longest), and their number (batch,)."""
    lengths = np.array([min(most, len(row.tokens)) for row in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max())), np.int64)
    for padded, row, length in zip(tokens, rows, lengths, strict=True):
        padded[:length] = row.tokens[:length]
    return tokens, lengths
