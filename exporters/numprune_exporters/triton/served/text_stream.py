"""Convert a stream of tokens to pieces of text: whole characters only, without stop words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Output of a tokenizer's decoder for an incomplete character."""


class Decodes(Protocol):
    """Decodes tokens to text."""

    def decode(self, tokens: Sequence[int]) -> str: ...


class TextStream:
    """Pieces of text whose concatenation is the text of all tokens, up to the first stop word.

    New tokens are decoded together with the previous ones, and the text of the previous ones is
    removed: a decoder may treat the first token of a text differently (a leading space).
    """

    def __init__(self, tokenizer: Decodes, stop_words: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop_words = stop_words
        self._tokens: list[int] = []
        self._context = self._read = 0
        self._held = ""
        self.stopped = False
        """Whether a stop word was reached."""

    def push(self, token: int) -> str:
        """The text that is final after one more token; may be empty."""
        self._tokens.append(token)
        whole = self._tokenizer.decode(self._tokens[self._context :])
        if whole.endswith(INCOMPLETE):
            return ""
        return self._release(self._advance(whole), final=False)

    def finish(self) -> str:
        """The text held back, after the last token."""
        whole = self._tokenizer.decode(self._tokens[self._context :])
        return self._release(self._advance(whole), final=True)

    def _advance(self, whole: str) -> str:
        before = self._tokenizer.decode(self._tokens[self._context : self._read])
        self._context, self._read = self._read, len(self._tokens)
        return whole[len(before) :]

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._held += text
        starts = [self._held.find(word) for word in self._stop_words if word in self._held]
        if starts:
            self.stopped = True
            end = min(starts)
        else:
            end = len(self._held) - (0 if final else self._possible_stop())
        released, self._held = self._held[:end], self._held[end:]
        return released

    def _possible_stop(self) -> int:
        """Length of the longest suffix of the held text that is a prefix of a stop word."""
        return max(
            (
                size
                for word in self._stop_words
                for size in range(1, len(word))
                if self._held.endswith(word[:size])
            ),
            default=0,
        )
