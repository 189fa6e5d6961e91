"""Next-token distributions from logits, in fp64 so that small differences survive the sums."""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

Float64 = NDArray[np.float64]


def log_probabilities(logits: Logits) -> Float64:
    """Log-softmax over the last axis, (..., vocabulary), in nats."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def divergence(reference: Logits, candidate: Logits) -> Float64:
    """KL(reference || candidate) over the last axis, (...), in nats; 0 for equal distributions."""
    log_p, log_q = log_probabilities(reference), log_probabilities(candidate)
    total: Float64 = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return total
