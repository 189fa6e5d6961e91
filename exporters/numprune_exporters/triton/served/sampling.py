"""Choose the next token from logits, greedily or by sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numprune_exporters.triton.served.request import Request


class Sampler:
    """Chooses the tokens of one request, with its own random generator."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._random = np.random.default_rng(request.seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token from fp32 logits (vocabulary,)."""
        if self._request.temperature == 0:
            return int(logits.argmax())
        odds = probabilities(
            logits, self._request.temperature, self._request.top_k, self._request.top_p
        )
        return int(self._random.choice(len(odds), p=odds))


def probabilities(
    logits: NDArray[np.float32], temperature: float, top_k: int, top_p: float
) -> NDArray[np.float64]:
    """softmax(logits / temperature), cut to top-k, then to top-p, normalised: (vocabulary,), fp64.

    Top-p is the nucleus of Holtzman et al. 2019, arXiv:1904.09751: the fewest tokens whose
    probabilities reach `top_p`.
    """
    # Subtract the largest logit first: a tiny temperature would overflow.
    scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    order = np.argsort(-scaled, kind="stable")
    kept = order[:top_k] if top_k else order
    odds = np.exp(scaled[kept])
    odds /= odds.sum()
    reached = int(np.searchsorted(np.cumsum(odds), top_p)) + 1
    truncated = np.zeros(len(logits))
    truncated[kept[:reached]] = odds[:reached]
    truncated /= truncated.sum()
    return truncated
