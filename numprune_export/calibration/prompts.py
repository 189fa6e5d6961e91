"""Prompts for generated calibration text.

A chat model, given its chat template up to the user's message, generates a request from its
training distribution and answers it (Xu et al. 2024, arXiv:2406.08464, Magpie); or it gets a
request for one of several kinds of text. Any other model starts from one token of its vocabulary
(Liu et al. 2023, arXiv:2305.17888, LLM-QAT, §2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.data.vocabulary import require_embeddings

if TYPE_CHECKING:
    from jaxtyping import Int64
    from transformers import PreTrainedTokenizerBase

Kind = Literal["auto", "chat", "vocabulary"]
"""`auto`: chats if the tokenizer has a working template that leaves most of a text to be
generated."""
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
"""Requests for kinds of text that differ widely."""
OPEN = -1
"""Placeholder token id of a position that the model fills."""
LEFT = 0.75
"""Least fraction of a text that a prompt leaves to the model."""
_WORDS = "what a user says"
_WAY_OUT = "give `generated_text: {prompts: vocabulary}`"


@dataclass(frozen=True)
class Starts:
    """Prompts to draw from."""

    tokens: Int64[np.ndarray, "starts tokens"]
    """One prompt per row, filled up with `OPEN` on the right."""
    refusal: str | None = None
    """Why `auto` does not use the tokenizer's chat template; None if it does or if there is
    none."""


def prompts(
    tokenizer: PreTrainedTokenizerBase,
    kind: Kind,
    requests: Sequence[str],
    asked: float,
    *,
    vocabulary: int,
    tokens: int,
) -> Starts:
    """All prompts to draw from.

    For chats each request is one row; the template without a request is repeated until the requests
    are the fraction `asked` of all rows.

    Args:
        tokenizer: The model's tokenizer.
        kind: Kind of prompts.
        requests: User messages of chat prompts.
        asked: Fraction of the chat prompts with a request, rounded to the nearest possible one if
            above 0; in the others the model generates the user's message too.
        vocabulary: Number of token ids that the model has an embedding for.
        tokens: Tokens per text.

    Raises:
        InputError: `kind` is `chat`, and the tokenizer has no template, or the template fails or is
            too long.
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
    """Rows of chat prompts; see `prompts`."""
    starts = [_start(tokenizer, request) for request in requests] if asked else []
    starts += _open(tokenizer, len(requests), asked)
    require_embeddings((("the chat template", ids) for ids in starts), tokenizer, vocabulary)
    longest = max(map(len, starts))
    if longest > (1 - LEFT) * tokens:
        raise InputError(
            f"a prompt takes {longest} of a text's {tokens} tokens, the chat template included",
            hint="give longer windows (`tokens_per_sequence`), fewer texts in each (`per_window`), or"
            " `prompts: vocabulary`",
        )
    rows = [[*ids, *[OPEN] * (longest - len(ids))] for ids in starts]
    return np.asarray(rows, dtype=np.int64)


def _words(
    tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> Int64[np.ndarray, "starts tokens"]:
    ids = np.arange(min(len(tokenizer), vocabulary), dtype=np.int64)
    return np.setdiff1d(ids, tokenizer.all_special_ids)[:, None]


def _open(tokenizer: PreTrainedTokenizerBase, requests: int, asked: float) -> list[list[int]]:
    """The template up to the user's message, repeated to fill the fraction without requests."""
    before, words, _ = _templated(tokenizer, _WORDS).partition(_WORDS)
    ids = _ids(tokenizer, before) if words else []
    if not ids:
        raise InputError("the chat template puts nothing before the user's message", hint=_WAY_OUT)
    return [ids] * (round(requests * (1 / asked - 1)) if asked else 1)


def _start(tokenizer: PreTrainedTokenizerBase, request: str) -> list[int]:
    """The template with a request, up to the answer."""
    return _ids(tokenizer, _templated(tokenizer, request, add_generation_prompt=True))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _templated(tokenizer: PreTrainedTokenizerBase, words: str, **options: Any) -> str:

    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template to use as a prompt", hint=_WAY_OUT)
    conversation = [{"role": "user", "content": words}]
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, **options))
    except Exception as error:  # a template is foreign code, which may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"the tokenizer's chat template fails: {reason}", hint=_WAY_OUT) from error
