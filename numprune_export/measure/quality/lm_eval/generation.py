"""Greedy generation until a stop text, as lm-eval requests it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from numprune_export.core.errors import RecipeError
from numprune_export.core.halving import in_parts
from numprune_export.export.runner import DecoderRunner, Tokens

DEFAULT_TOKENS = 256


@dataclass(frozen=True)
class Request:
    """One prompt with its stop texts."""

    tokens: tuple[int, ...]
    stops: tuple[str, ...]
    most: int
    """Maximum number of generated tokens."""

    @classmethod
    def of(
        cls,
        arguments: tuple[str, Mapping[str, Any]],
        encode: Callable[[str], list[int]],
        max_length: int,
    ) -> Request:
        """Convert a request of lm-eval, truncating its prompt on the left.

        Raises:
            RecipeError: it asks for sampling, or for `max_length` or more tokens.
        """
        text, options = arguments
        settings = normalize_gen_kwargs(dict(options), DEFAULT_TOKENS)
        if settings["do_sample"]:
            raise RecipeError(
                "a task of lm-eval asks for sampled text, which differs between runtimes",
                hint="set `do_sample: false` in its `generation_kwargs`",
            )
        most = settings["max_gen_toks"]
        if most >= max_length:
            raise RecipeError(
                f"a task of lm-eval asks for `{most}` tokens; the maximum length is {max_length}",
                hint="set `max_gen_toks` in its `generation_kwargs`, or raise `tasks.max_length`",
            )
        return cls(tuple(encode(text)[-(max_length - most) :]), tuple(settings["until"]), most)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tokens, Tokens]:
    """Right-padded token ids, (rows, longest), and the lengths without padding, (rows,)."""
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
    """Generate a continuation of each prompt, up to its first stop text or the end-of-text token.

    Args:
        runner: Open; its capacity must hold prompt and continuation.
        batch: Prompts per forward pass; they are sorted by length.
        advance: Called with the number of prompts just done.
    """
    texts = [""] * len(requests)
    order = sorted(range(len(requests)), key=lambda number: -len(requests[number].tokens))
    for start in range(0, len(order), batch):
        numbers = order[start : start + batch]
        group = [requests[number] for number in numbers]

        def run(part: slice, group: Sequence[Request] = group) -> list[str]:
            return _generate_batch(runner, tokenizer, group[part])

        batch_texts = chain.from_iterable(in_parts(len(group), run))
        for number, text in zip(numbers, batch_texts, strict=True):
            texts[number] = text
        advance(len(numbers))
    return texts


def _generate_batch(
    runner: DecoderRunner, tokenizer: Any, requests: Sequence[Request]
) -> list[str]:
    logits = runner.prefill(*padded([request.tokens for request in requests]))
    answers: list[list[int]] = [[] for _ in requests]
    running = [request.most > 0 for request in requests]
    while True:
        tokens = np.asarray(logits.argmax(axis=1), np.int64)
        for row, token in enumerate(tokens):
            if running[row]:
                running[row] = _append(tokenizer, requests[row], answers[row], int(token))
        if not any(running):
            return [
                _text(tokenizer, request, answer)
                for request, answer in zip(requests, answers, strict=True)
            ]
        logits = runner.decode(tokens)


def _append(tokenizer: Any, request: Request, answer: list[int], token: int) -> bool:
    """Append a token to the answer; returns whether generation continues."""
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
