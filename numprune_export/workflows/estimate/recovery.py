"""Work and memory of a recovery by distillation."""

from __future__ import annotations

from numprune_export.pruning.recover.divergence import LOGITS_AT_ONCE
from numprune_export.workflows.estimate import forward_passes, memory
from numprune_export.workflows.estimate.shapes import Shapes
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work, total

STATES = 5
"""fp32 numbers per trained weight: itself, gradient, two moments of the optimiser, the best so far."""
UPDATED = 10
"""Values read or written per trained weight in a step."""


def work(dense: Shapes, small: Shapes, texts: Texts) -> Work:
    """The dense model's pass; the pruned one's, and back to activations and weights; the head of both,
    and back to its input; the optimiser's steps.

    Args:
        dense: Shapes of the dense model.
        small: Shapes of the pruned model.
        texts: All windows that are trained on, in batches of a step.
    """
    passes = total(forward_passes.forward(dense, block, texts) for block in dense.blocks)
    for block in small.blocks:
        forward = forward_passes.forward(small, block, texts)
        passes += forward + forward_passes.backward(small, block, texts).times(2)
    heads = forward_passes.head(dense, texts).times(3)
    return passes + heads + Work({"elementwise": 4.0 * UPDATED * texts.batches * small.prunable})


def need(dense: Shapes, small: Shapes, texts: Texts) -> float:
    """Bytes beside the dense model."""
    weights = 4.0 * (STATES * small.prunable + small.parameters - small.prunable)
    logits = min(LOGITS_AT_ONCE, texts.batch_tokens * dense.head)
    graph = len(small.blocks) * memory.activations(small, texts, graph=True)
    return weights + graph + memory.LOGIT_COPIES * 4.0 * logits
