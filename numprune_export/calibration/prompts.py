"""What a text that a language model writes itself may start with.

A model tuned for dialogue, given its chat template up to where a user's words begin, writes what users
asked in its training and answers it (Xu et al. 2024, arXiv:2406.08464, Magpie); or it is asked for texts
of several kinds. Any other model starts from a word of its vocabulary (Liu et al. 2023, arXiv:2305.17888,
LLM-QAT, §2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from transformers import PreTrainedTokenizerBase

from numprune_export.core.errors import InputError
from numprune_export.data.vocabulary import require_embeddings

Kind = Literal["auto", "chat", "vocabulary"]
"""`auto`: chats where the tokenizer has a template that works and leaves most of a text to be written."""
REQUESTS = (
    "Write a chapter of a novel.",
    "Write an encyclopedia article about a person or a place.",
    "Write a news report.",
    "Write a speech.",
    "Write a long letter to a friend.",
    "Write an essay about history or society.",
    "Explain something from science in detail.",
    "Tell me a story.",
    "Write a program and explain how it works.",
)
"""Kinds of text that are far from each other."""
OPEN = -1
"""The token id of a place that the model fills."""
LEFT = 0.75
"""Fraction of a text that a template leaves, at least."""
_WORDS = "what a user says"
_WAY_OUT = "give `generated_text: {starts: vocabulary}`"


@dataclass(frozen=True)
class Starts:
    """What a text may start with."""

    tokens: Int64[np.ndarray, "starts tokens"]
    """One row for each, `OPEN` after those that end before others."""
    refusal: str | None = None
    """Why `auto` does not use the chat template that the tokenizer has."""


def prompts(
    tokenizer: PreTrainedTokenizerBase,
    kind: Kind,
    requests: Sequence[str],
    asked: float,
    *,
    vocabulary: int,
    tokens: int,
) -> Starts:
    """All starts that there are to draw from.

    In a chat each request is a row, and the template without one as many rows as make `asked` of all.

    Args:
        tokenizer: Of the model.
        kind: Which starts.
        requests: What a user asks in a chat.
        asked: Fraction of the chats in which one of these is, above 0 to the nearest there is; in the
            others the model asks too.
        vocabulary: Token ids that the model has an embedding for.
        tokens: Of a text.

    Raises:
        InputError: chats are asked for, and there is no template, none that fits, or it fails.
    """
    if kind == "vocabulary" or (kind == "auto" and not tokenizer.chat_template):
        return Starts(_words(tokenizer, vocabulary))
    try:
        return Starts(_chats(tokenizer, requests, asked, vocabulary, tokens))
    except InputError as error:
        if kind == "chat":
            raise
        return Starts(_words(tokenizer, vocabulary), str(error))


def _chats(
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[str],
    asked: float,
    vocabulary: int,
    tokens: int,
) -> Int64[np.ndarray, "starts tokens"]:
    """Rows of chats; see `text_starts`."""
    starts = [_start(tokenizer, request) for request in requests] if asked else []
    starts += _open(tokenizer, len(requests), asked)
    require_embeddings((("the chat template", ids) for ids in starts), tokenizer, vocabulary)
    longest = max(map(len, starts))
    if longest > (1 - LEFT) * tokens:
        raise InputError(
            f"a start takes {longest} of a text's {tokens} tokens, the chat template with it",
            hint="give longer windows (`tokens_per_sequence`), fewer texts in each (`per_window`), or"
            " `starts: vocabulary`",
        )
    rows = [[*ids, *[OPEN] * (longest - len(ids))] for ids in starts]
    return np.asarray(rows, dtype=np.int64)


def _words(
    tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> Int64[np.ndarray, "starts tokens"]:
    every = np.arange(min(len(tokenizer), vocabulary), dtype=np.int64)
    return np.setdiff1d(every, tokenizer.all_special_ids)[:, None]


def _open(tokenizer: PreTrainedTokenizerBase, requests: int, asked: float) -> list[list[int]]:
    """The template up to where a user's words begin, as often as the share of requests leaves."""
    before, words, _ = _templated(tokenizer, _WORDS).partition(_WORDS)
    ids = _ids(tokenizer, before) if words else []
    if not ids:
        raise InputError("the chat template puts nothing before a user's words", hint=_WAY_OUT)
    return [ids] * (round(requests * (1 / asked - 1)) if asked else 1)


def _start(tokenizer: PreTrainedTokenizerBase, request: str) -> list[int]:
    """The template up to where the answer to a request begins."""
    return _ids(tokenizer, _templated(tokenizer, request, add_generation_prompt=True))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _templated(tokenizer: PreTrainedTokenizerBase, words: str, **options: Any) -> str:

    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template to start a text with", hint=_WAY_OUT)
    conversation = [{"role": "user", "content": words}]
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, **options))
    except Exception as error:  # a template is a foreign program, which may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"the tokenizer's chat template fails: {reason}", hint=_WAY_OUT) from error
