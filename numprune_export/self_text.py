"""Texts that a language model writes itself: calibration of all kinds that it knows.

Statistics of one kind of text keep what that kind needs. A model's own samples are of the kinds it was
trained on, in their proportions (Liu et al. 2023, arXiv:2305.17888, LLM-QAT, §2.1, for training;
Williams et al. 2024, arXiv:2410.17170, for calibration of quantisation and pruning).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor
from transformers import Cache

from numprune_export.blocks import Tick
from numprune_export.corpus import Windows
from numprune_export.errors import NumericalError
from numprune_export.held_layer import HeldLayer
from numprune_export.products import ExactAttention
from numprune_export.strict import Strict

ROWS = 32
"""Texts written at once: more cost more memory, and hardly less time."""


class SelfCalibration(Strict):
    """How much text, how bold, and what it is for."""

    sequences: NonNegativeInt = 0
    """Windows that the dense model writes, as long as the calibration's own."""
    temperature: PositiveFloat = 0.7
    """Of the sampling. At 1 a small model soon writes what nobody would."""
    used_for: Literal["compensation", "all"] = "compensation"
    """`compensation`: what stays is chosen on the calibration's own text, and only the repair of what
    stays reads the model's too. `all`: statistics, gradients and scores as well."""


def write(
    model: Any,
    starts: NDArray[np.int64],
    *,
    sequences: int,
    tokens: int,
    temperature: float,
    seed: int,
    tick: Tick,
) -> Windows:
    """Full sampled windows; the same for equal seeds on one machine.

    Args:
        model: A causal language model.
        starts: Token ids that a text may start with, one drawn for each.
        sequences: Texts.
        tokens: Of each. An end of text is a token as any other: what comes after it is a new one.
        temperature: Divides the logits.
        seed: Of the samples.
        tick: Counts tokens of `ROWS` texts, or of what is left of them.

    Raises:
        NumericalError: logits are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.from_numpy(starts)[
        torch.randint(len(starts), (sequences, 1), generator=generator)
    ]
    parts = [
        _continued(model, drawn[first : first + ROWS], tokens, temperature, generator, tick)
        for first in range(0, sequences, ROWS)
    ]
    found = torch.cat(parts).numpy()
    return Windows(found, np.full(sequences, tokens, dtype=np.int64))


@torch.inference_mode()
def _continued(
    model: Any,
    rows: Tensor,
    tokens: int,
    temperature: float,
    generator: torch.Generator,
    tick: Tick,
) -> Tensor:
    past = Cache(layers=[HeldLayer(tokens) for _ in range(model.config.num_hidden_layers)])
    written = [rows]
    while len(written) < tokens:
        with ExactAttention():
            output = model(
                input_ids=written[-1], past_key_values=past, use_cache=True, logits_to_keep=1
            )
        logits = output.logits[:, -1].float()
        if not bool(torch.isfinite(logits).all()):
            raise NumericalError(
                "the model's logits are not finite where it writes its own calibration text",
                hint="check the checkpoint, or give `self_calibration: 0`",
            )
        written.append(_drawn((logits / temperature).softmax(-1), generator))
        tick(1)
    return torch.cat(written, dim=1)


def _drawn(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One token for every row, by the inverse of its distribution.

    `torch.multinomial` draws a number for every word there is: a quarter of a step's time.
    """
    below = probabilities.double().cumsum(-1)
    share = torch.rand(len(below), 1, generator=generator, dtype=torch.float64)
    found = torch.searchsorted(below, share.to(below.device) * below[:, -1:], right=True)
    return found.clamp_max(probabilities.shape[1] - 1)


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
