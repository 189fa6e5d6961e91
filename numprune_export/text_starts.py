"""What a text that a language model writes itself may start with.

A model tuned for dialogue, given its chat template up to where a user's words begin, writes what users
asked in its training and answers it (Xu et al. 2024, arXiv:2406.08464, Magpie). Any other model starts from
a word of its vocabulary (Liu et al. 2023, arXiv:2305.17888, LLM-QAT, §2.1).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int64
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from numprune_export.errors import InputError

Kind = Literal["auto", "chat", "vocabulary"]
"""`auto`: a chat where the tokenizer has a template that leaves most of a text to be written."""
LEFT = 0.75
"""Fraction of a text that a template leaves, at least."""
_WORDS = "what a user says"


def text_starts(
    tokenizer: PreTrainedTokenizerBase, kind: Kind, *, vocabulary: int, tokens: int
) -> Int64[np.ndarray, "starts tokens"]:
    """Token ids of all starts that there are to draw from: one for a chat.

    Args:
        tokenizer: Of the model.
        kind: Which starts.
        vocabulary: Token ids that the model has an embedding for.
        tokens: Of a text.

    Raises:
        InputError: a chat is asked for and there is no template that fits, or its template fails.
    """
    if kind == "vocabulary" or (kind == "auto" and not tokenizer.chat_template):
        return _words(tokenizer, vocabulary)
    chat = _chat(tokenizer)
    if len(chat) <= (1 - LEFT) * tokens:
        return np.asarray([chat], dtype=np.int64)
    if kind == "auto":
        return _words(tokenizer, vocabulary)
    raise InputError(
        f"the chat template takes {len(chat)} of a text's {tokens} tokens before a user's words",
        hint="give longer windows (`tokens_per_sequence`), fewer texts in each (`per_window`), or"
        " `starts: vocabulary`",
    )


def _words(
    tokenizer: PreTrainedTokenizerBase, vocabulary: int
) -> Int64[np.ndarray, "starts tokens"]:
    every = np.arange(min(len(tokenizer), vocabulary), dtype=np.int64)
    return np.setdiff1d(every, tokenizer.all_special_ids)[:, None]


def _chat(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The template up to where a user's words begin."""
    hint = "give `self_calibration: {starts: vocabulary}`"
    if not tokenizer.chat_template:
        raise InputError("the tokenizer has no chat template to start a text with", hint=hint)
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": _WORDS}], tokenize=False)
    except TemplateError as error:
        raise InputError(f"the tokenizer's chat template fails: {error}", hint=hint) from error
    before, found, _ = str(text).partition(_WORDS)
    if not found or not before:
        raise InputError("the chat template puts nothing before a user's words", hint=hint)
    ids: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    return ids
