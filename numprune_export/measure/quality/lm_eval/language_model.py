"""A DecoderRunner behind lm-eval's language model interface.

Tokenization, truncation and the handling of empty contexts follow lm-eval's class for Hugging Face
models, so that scores are comparable with published ones. Log-likelihoods are summed in fp64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from numprune_export.core.errors import NumericalError
from numprune_export.core.halving import in_parts
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.quality.lm_eval.generation import Request, generate, padded
from numprune_export.numerics.divergence import log_probabilities

Scored = tuple[Any, list[int], list[int]]
"""The request, the tokens of its context, the tokens of its continuation."""


class RunnerLM(TemplateLM):  # type: ignore[misc] # lm-eval has no types
    """An open decoder with its tokenizer, as a language model of lm-eval."""

    def __init__(
        self,
        runner: DecoderRunner,
        tokenizer: Any,
        *,
        max_length: int,
        batch: int,
        expect: Callable[[int], None],
        advance: Callable[[int], None],
    ) -> None:
        """
        Args:
            runner: Open, with a capacity of at least `max_length`.
            tokenizer: A tokenizer of transformers.
            max_length: Maximum sequence length in tokens, generated tokens included.
            batch: Requests per forward pass.
            expect: Called with the number of added requests.
            advance: Called with the number of requests just done.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self._runner, self._max_length, self._batch = runner, max_length, batch
        self._expect, self._advance = expect, advance

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Encode with the tokenizer's defaults, without a second beginning-of-text token."""
        first = self.tokenizer.decode(self.prefix_token_id)
        special: dict[str, bool] = {}
        if add_special_tokens is not None:
            special["add_special_tokens"] = add_special_tokens
        elif has_bos_prefix(string, first):
            special["add_special_tokens"] = False
        return list(self.tokenizer.encode(string, **special))

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """See lm_eval.api.model.LM.loglikelihood."""
        self._expect(len(requests))
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scores

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """See lm_eval.api.model.LM.loglikelihood_rolling.

        Each text is split into windows without overlap; the first follows the prefix token.
        """
        windows: list[Scored] = []
        owner: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            for context, continuation in self._windows(text):
                windows.append((None, context, continuation))
                owner.append(number)
        self._expect(len(windows))
        total = np.zeros(len(requests))
        for number, (score, _greedy) in zip(
            owner, self._loglikelihood_tokens(windows), strict=True
        ):
            total[number] += score
        return [float(score) for score in total]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """See lm_eval.api.model.LM.generate_until; greedy only.

        Raises:
            RecipeError: a task asks for sampling, or for `max_length` or more tokens.
        """
        self._expect(len(requests))
        prompts = [
            Request.of(request.args, self.tok_encode, self._max_length) for request in requests
        ]
        return generate(
            self._runner, self.tokenizer, prompts, batch=self._batch, advance=self._advance
        )

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Render the messages with the tokenizer's chat template."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _windows(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        pairs = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self._max_length,
            context_len=1,
        )
        for pair in pairs:
            yield make_disjoint_window(pair)

    def _loglikelihood_tokens(
        self, requests: Sequence[Scored], **_: Any
    ) -> list[tuple[float, bool]]:
        """Per request the summed log-probability of its continuation, and whether it is greedy.

        Requests that differ only in the last token share a row.
        """
        rows: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            inputs = (context + continuation)[-(self._max_length + 1) :][:-1]
            rows.setdefault(tuple(inputs), []).append(number)
        scores: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        order = sorted(rows, key=len, reverse=True)
        for start in range(0, len(order), self._batch):
            group = order[start : start + self._batch]
            for row, inputs_of_row in zip(self._logits(group), group, strict=True):
                for number in rows[inputs_of_row]:
                    scores[number] = _score(row[: len(inputs_of_row)], requests[number][2])
                self._advance(len(rows[inputs_of_row]))
        return scores

    def _logits(self, group: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Logits of each row, (longest, vocabulary)."""
        tokens, lengths = padded(group)

        def run(part: slice) -> np.ndarray:
            return self._runner.prefill(tokens[part], lengths[part], all_positions=True)

        for logits in in_parts(len(group), run):
            yield from logits


def _score(logits: np.ndarray, continuation: Sequence[int]) -> tuple[float, bool]:
    """Score logits (length, vocabulary), whose last rows predict the continuation."""
    last = logits[-len(continuation) :]
    if not np.isfinite(last).all():
        raise NumericalError(
            "the model returned NaN or infinite logits in an lm-eval task",
            hint="check the weights, or prune less",
        )
    wanted = np.asarray(continuation)[:, None]
    total = float(np.take_along_axis(log_probabilities(last), wanted, axis=1).sum())
    return total, bool((last.argmax(axis=1) == wanted[:, 0]).all())
