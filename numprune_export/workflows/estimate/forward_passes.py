"""What it takes to run blocks over texts, forth and back.

Products are counted from the shapes. Elementwise work is counted in values read or written per token:
norms, rotations, gates and residuals as transformers' own forward does them, one operator at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from numprune_export.numerics.gram import STRIPES
from numprune_export.workflows.estimate.shapes import Shapes, Sublayer
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work, total

SUMMED = (STRIPES + 1) / (2 * STRIPES)
"""Part of the multiplications of x·xᵀ that its upper stripes take."""
BACK = 2.0
"""Elementwise work and operators of a backward pass, by those forward."""
LOSS_VALUES = 12.0
"""Values read or written per logit by a loss or a divergence and its gradient."""


def producing(shapes: Shapes, sublayer: Sublayer, texts: Texts) -> Work:
    """Up to the consumer's input."""
    tokens, width = texts.tokens, sublayer.width
    work: dict[str, float] = {"products": 2 * tokens * sublayer.inputs * sublayer.produced}
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
    """The consumer and the residual; an encoder's norm."""
    values = (3 if shapes.causal else 5) * shapes.hidden
    return Work(
        {
            "products": 2 * texts.tokens * sublayer.width * sublayer.inputs,
            "elementwise": texts.tokens * shapes.itemsize * values,
            "calls": 3 * texts.batches,
        }
    )


def forward(shapes: Shapes, block: Sequence[Sublayer], texts: Texts) -> Work:
    """One block."""
    parts = (step(shapes, one, texts) for one in block for step in (producing, consuming))
    return total(parts)


def backward(shapes: Shapes, block: Sequence[Sublayer], texts: Texts) -> Work:
    """Gradients of one block's activations, and none of its weights."""
    found = dict(forward(shapes, block, texts).amounts)
    found["attention_back"] = found.pop("attention", 0.0)
    for kind in ("activation", "elementwise", "calls"):
        found[kind] = BACK * found.get(kind, 0.0)
    return Work(found)


def head(shapes: Shapes, texts: Texts) -> Work:
    """Logits of every token, and what is made of them."""
    logits = texts.tokens * shapes.head
    return Work({"products": 2 * logits * shapes.hidden, "elementwise": LOSS_VALUES * 4 * logits})


def gram(sublayer: Sublayer, texts: Texts) -> Work:
    """Second moments of the consumer's input."""
    return Work(
        {"grams": 2 * SUMMED * texts.tokens * sublayer.width**2, "calls": 20.0 * texts.batches}
    )


def _operators(shapes: Shapes, sublayer: Sublayer) -> int:
    if not shapes.causal:
        return 20 if sublayer.kind == "attention" else 5
    return 45 if sublayer.kind == "attention" else 15
