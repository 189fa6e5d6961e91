"""Work of forward and backward passes of blocks over texts.

Matrix products are counted from shapes. Elementwise work is counted in values read or written per
token: norms, rotations, gates and residuals as transformers executes them, one operator at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from numprune_export.numerics.gram import STRIPES
from numprune_export.workflows.estimate.shapes import Shapes, Sublayer
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work, total

SUMMED = (STRIPES + 1) / (2 * STRIPES)
"""Fraction of the multiplications of x·xᵀ in its upper stripes."""
BACK = 2.0
"""Elementwise work and operator calls of a backward pass, relative to the forward pass."""
LOSS_VALUES = 12.0
"""Values read or written per logit for a loss or divergence and its gradient."""


def producing(shapes: Shapes, sublayer: Sublayer, texts: Texts) -> Work:
    """Work of a sublayer up to its consumer's input."""
    tokens, width = texts.tokens, sublayer.width
    work: dict[str, float] = {"layers": 2 * tokens * sublayer.inputs * sublayer.produced}
    norm = 7 * shapes.hidden if shapes.causal else 0
    if sublayer.kind == "attention":
        work["attention"] = 4 * texts.pairs * width
        between = (16 if shapes.causal else 4) * width
    else:
        work["activation"] = tokens * width
        between = (3 if shapes.causal else 0) * width
    work["elementwise"] = tokens * shapes.itemsize * (norm + between)
    work["calls"] = texts.batches * _operators(shapes, sublayer)
    return Work(work)  # type: ignore[arg-type]


def consuming(shapes: Shapes, sublayer: Sublayer, texts: Texts) -> Work:
    """Work of the consumer, the residual and an encoder's norm."""
    values = (3 if shapes.causal else 5) * shapes.hidden
    return Work(
        {
            "layers": 2 * texts.tokens * sublayer.width * sublayer.inputs,
            "elementwise": texts.tokens * shapes.itemsize * values,
            "calls": 3 * texts.batches,
        }
    )


def forward(shapes: Shapes, block: Sequence[Sublayer], texts: Texts) -> Work:
    """Forward pass of one block."""
    parts = (step(shapes, sublayer, texts) for sublayer in block for step in (producing, consuming))
    return total(parts)


def backward(shapes: Shapes, block: Sequence[Sublayer], texts: Texts) -> Work:
    """Backward pass of one block: gradients of activations, not of weights."""
    amounts = dict(forward(shapes, block, texts).amounts)
    amounts["attention_back"] = amounts.pop("attention", 0.0)
    amounts["layers_back"] = amounts.pop("layers", 0.0)
    for kind in ("activation", "elementwise", "calls"):
        amounts[kind] = BACK * amounts.get(kind, 0.0)
    return Work(amounts)


def head(shapes: Shapes, texts: Texts) -> Work:
    """Logits of every token, and their loss or divergence."""
    logits = texts.tokens * shapes.head
    return Work({"layers": 2 * logits * shapes.hidden, "elementwise": LOSS_VALUES * 4 * logits})


def gram(sublayer: Sublayer, texts: Texts) -> Work:
    """Gram matrix of the consumer's input."""
    return Work(
        {"grams": 2 * SUMMED * texts.tokens * sublayer.width**2, "calls": 20.0 * texts.batches}
    )


def _operators(shapes: Shapes, sublayer: Sublayer) -> int:
    if not shapes.causal:
        return 20 if sublayer.kind == "attention" else 5
    return 45 if sublayer.kind == "attention" else 15
