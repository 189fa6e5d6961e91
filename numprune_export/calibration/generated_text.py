"""Texts that a language model writes itself: calibration of all kinds that it knows.

Statistics of one kind of text keep what that kind needs. A model's own samples are of the kinds it was
trained on (Liu et al. 2023, arXiv:2305.17888, LLM-QAT, §2.1, for training; Williams et al. 2024,
arXiv:2410.17170, for calibration of quantisation and pruning).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache

from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.calibration.prompts import OPEN
from numprune_export.core import allocator
from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models.block_runner import Progress
from numprune_export.models.kv_cache import PreallocatedLayer, cache_argument

WINDOWS = 32
"""Of them the texts are written at once: more cost more memory, and hardly less time."""
ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Of a logit: a word exactly as likely as is asked stays."""
RELEASED = 32
"""Tokens after which freed memory is given back: pieces that grow with every token find no place in
what the ones before left (once 4 GiB of it on a model of 135 M)."""


def write(
    model: Any,
    starts: Int64[np.ndarray, "starts tokens"],
    settings: GeneratedText,
    *,
    tokens: int,
    seed: int,
    tick: Progress,
) -> Windows:
    """Full sampled windows; the same for equal seeds on one machine.

    Args:
        model: A causal language model.
        starts: Token ids that a text may start with, one row drawn for each, `OPEN` where it has
            ended.
        settings: How many texts, and how they are sampled.
        tokens: Of a window. An end of text is a token as any other: what comes after it is a new one.
        seed: Of the samples.
        tick: Counts tokens of the texts of `WINDOWS` windows, or of what is left of them, without
            the first ones, which all starts have.

    Raises:
        NumericalError: logits are not finite.
    """
    generator, sequences = torch.Generator().manual_seed(seed), settings.sequences
    texts, at_once = sequences * settings.per_window, WINDOWS * settings.per_window
    drawn = torch.from_numpy(starts)[torch.randint(len(starts), (texts,), generator=generator)]
    length, given = settings.length(tokens), shared(starts)
    parts = [
        _continued(model, drawn[first : first + at_once], given, length, settings, generator, tick)
        for first in range(0, texts, at_once)
    ]
    found = torch.cat(parts).reshape(sequences, -1)[:, :tokens].numpy()
    return Windows(found, np.full(sequences, tokens, dtype=np.int64))


def shared(starts: Int64[np.ndarray, "starts tokens"]) -> int:
    """First places of a text at which every start has a token."""
    return int((starts != OPEN).all(0).sum())


@torch.inference_mode()
def _continued(
    model: Any,
    rows: Tensor,
    given: int,
    tokens: int,
    settings: GeneratedText,
    generator: torch.Generator,
    tick: Progress,
) -> Tensor:
    layers = [PreallocatedLayer(tokens) for _ in range(model.config.num_hidden_layers)]
    past = {cache_argument(model): Cache(layers=layers)}
    written = [rows[:, :given]]
    for position in range(given, tokens):
        if position % RELEASED == 0:
            allocator.release()
        output = model(input_ids=written[-1], **past, use_cache=True, logits_to_keep=1)
        following = _drawn(output.logits[:, -1], settings, generator)
        if position < rows.shape[1]:
            asked = rows[:, position : position + 1].to(following.device)
            following = torch.where(asked == OPEN, following, asked)
        written.append(following)
        tick(1)
    return torch.cat(written, dim=1)


def _drawn(
    logits: Float[Tensor, "rows words"], settings: GeneratedText, generator: torch.Generator
) -> Int64[Tensor, "rows 1"]:
    """One word for every row, by the inverse of its distribution over words that are likely enough.

    In few passes over all words, which are a good part of a step.

    Raises:
        NumericalError: logits are not finite.
    """
    logits = logits.float()
    largest = logits.amax(-1, keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        raise NumericalError(
            "the model's logits are not finite where it writes its own calibration text",
            hint="check the checkpoint, or give `generated_text: 0`",
        )
    least = largest + (log(settings.min_p) if settings.min_p else -torch.inf)
    rows, words = torch.where(logits >= least - ROUNDING * least.abs())
    chances = (logits[rows, words] - largest[rows, 0]).double().div(settings.temperature).exp()
    # All rows' words are in one line, and each row draws from its own stretch of it.
    below, ends = chances.cumsum(0), rows.bincount().cumsum(0)
    stop = below[ends - 1]
    start = stop.roll(1).index_fill(0, ends.new_zeros(1), 0)
    share = torch.rand(len(logits), generator=generator, dtype=torch.float64).to(below)
    # Short of its end, whatever rounds: what comes there is of the next row.
    sought = (start + share * (stop - start)).minimum(stop.nextafter(start))
    return words[torch.searchsorted(below, sought, right=True)][:, None]


def among(own: Windows, others: Windows) -> Windows:
    """Windows of both, evenly mixed: any first few hold both in their proportion."""
    width = max(own.tokens.shape[1], others.tokens.shape[1])
    tokens = np.concatenate([_widened(one.tokens, width) for one in (own, others)])
    lengths = np.concatenate([own.lengths, others.lengths])
    place = np.concatenate(
        [(np.arange(len(one.tokens)) + 0.5) / len(one.tokens) for one in (own, others)]
    )
    order = np.argsort(place, kind="stable")
    return Windows(tokens[order], lengths[order])


def _widened(tokens: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])))
