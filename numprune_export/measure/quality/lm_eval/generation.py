"""Greedy generation until a stop text, as lm-eval asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from numprune_export.core.errors import RecipeError
from numprune_export.export.runner import DecoderRunner, Tokens

DEFAULT_TOKENS = 256


@dataclass(frozen=True)
class Request:
    """One prompt."""

    tokens: tuple[int, ...]
    stops: tuple[str, ...]
    most: int
    """Tokens to generate at most."""

    @classmethod
    def of(
        cls,
        arguments: tuple[str, Mapping[str, Any]],
        encode: Callable[[str], list[int]],
        max_length: int,
    ) -> Request:
        """
        Raises:
            RecipeError: it asks for sampling, or for more tokens than `max_length` leaves.
        """
        text, given = arguments
        settings = normalize_gen_kwargs(dict(given), DEFAULT_TOKENS)
        if settings["do_sample"]:
            raise RecipeError(
                "a task of lm-eval asks for sampled text, which no two runtimes give alike",
                hint="set `do_sample: false` in its `generation_kwargs`",
            )
        most = settings["max_gen_toks"]
        if most >= max_length:
            raise RecipeError(
                f"a task of lm-eval asks for `{most}` tokens, the model sees {max_length} at once",
                hint="set `max_gen_toks` in its `generation_kwargs`, or raise `tasks.max_length`",
            )
        return cls(tuple(encode(text)[-(max_length - most) :]), tuple(settings["until"]), most)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tokens, Tokens]:
    """Right-padded (rows, longest), and the true lengths (rows,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max())), np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return tokens, lengths


def generate(
    runner: DecoderRunner,
    tokenizer: Any,
    requests: Sequence[Request],
    *,
    batch: int,
    advance: Callable[[int], None],
) -> list[str]:
    """The text after each prompt up to its first stop text or the end-of-text token.

    Args:
        runner: Open; its capacity holds prompt and answer.
        batch: Prompts at once, of like length.
        advance: Told of prompts done.
    """
    found = [""] * len(requests)
    order = sorted(range(len(requests)), key=lambda number: -len(requests[number].tokens))
    for start in range(0, len(order), batch):
        numbers = order[start : start + batch]
        rows = _together(runner, tokenizer, [requests[number] for number in numbers])
        for number, text in zip(numbers, rows, strict=True):
            found[number] = text
        advance(len(numbers))
    return found


def _together(runner: DecoderRunner, tokenizer: Any, requests: Sequence[Request]) -> list[str]:
    logits = runner.prefill(*padded([one.tokens for one in requests]))
    answers: list[list[int]] = [[] for _ in requests]
    running = [one.most > 0 for one in requests]
    while True:
        tokens = np.asarray(logits.argmax(axis=1), np.int64)
        for row, token in enumerate(tokens):
            if running[row]:
                running[row] = _goes_on(tokenizer, requests[row], answers[row], int(token))
        if not any(running):
            return [
                _text(tokenizer, one, answer) for one, answer in zip(requests, answers, strict=True)
            ]
        logits = runner.decode(tokens)


def _goes_on(tokenizer: Any, request: Request, answer: list[int], token: int) -> bool:
    """Take a token into the answer; whether more should follow."""
    if token == tokenizer.eos_token_id:
        return False
    answer.append(token)
    if len(answer) >= request.most:
        return False
    text = tokenizer.decode(answer)
    return not any(stop and stop in text for stop in request.stops)


def _text(tokenizer: Any, request: Request, answer: Sequence[int]) -> str:
    text = tokenizer.decode(answer, skip_special_tokens=True)
    cut: str = postprocess_generated_text(text, list(request.stops), None)
    return cut
