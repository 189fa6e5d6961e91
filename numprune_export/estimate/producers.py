"""What a refit of an MLP's producers takes; see `producer_refit`."""

from __future__ import annotations

from numprune_export.estimate.shapes import Shapes, Sublayer
from numprune_export.estimate.solves import cholesky_operations
from numprune_export.estimate.texts import Texts
from numprune_export.estimate.work import Work
from numprune_export.producer_refit import ProducerRefit

SETUP = 20.0
"""Values read or written a token and unit, before and after the iterations."""


def some_batches(texts: Texts, every: int) -> Texts:
    """The first of so many."""
    return texts.first(-(-texts.batches // every) * texts.batch)


def refit(
    shapes: Shapes, whole: Sublayer, left: Sublayer, texts: Texts, settings: ProducerRefit
) -> Work:
    """One MLP: the step, the consumer after it, and its producers once more for all texts.

    Args:
        shapes: The model's.
        whole: The site before units are taken out.
        left: What is left of it.
        texts: That the repair reads.
        settings: Of the refit.
    """
    some = some_batches(texts, settings.every).tokens
    count = left.produced / left.width
    layer = 2 * some * left.inputs * left.width
    independent = 2 * left.produced * left.inputs**2
    layers = {
        "targets": 2 * some * left.inputs * whole.width,
        "around": (2 * count + 2) * layer,
        "iterations": settings.iterations * (2 * count + 2) * layer,
        "consumer": (count + 3) * layer,
        "outputs": 2 * texts.tokens * left.inputs * left.produced,
    }
    squares = {
        "inputs": 2 * some * left.inputs**2,
        "consumer": 2 * some * left.width**2,
        "independent": (2 * settings.iterations + 1) * independent,
    }
    values = SETUP + settings.iterations * (7 * count + 2)
    width, itemsize = left.width, shapes.itemsize
    return Work(
        {
            "products": sum(layers.values()) + sum(squares.values()),
            "activation": width * (3 * some + texts.tokens),
            "elementwise": itemsize * width * (values * some + 3 * texts.tokens),
            "cholesky": cholesky_operations(width, left.inputs) + 2.0 * left.inputs**3,
            "memory64": 8.0 * 2 * (width**2 + settings.iterations * left.produced * left.inputs),
            "calls": 60.0 * texts.batches,
        }
    )
