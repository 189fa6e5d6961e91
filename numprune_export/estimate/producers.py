"""What a refit of an MLP's producers takes; see `producer_refit`."""

from __future__ import annotations

from numprune_export.estimate import passes
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
    """One MLP, beside what a repair of the consumer alone takes: targets, the step, and producers and
    consumer for all texts after it.

    Args:
        shapes: The model's.
        whole: The site before units are taken out.
        left: What is left of it.
        texts: That the repair reads.
        settings: Of the refit.
    """
    some = some_batches(texts, settings.every).tokens
    count, width, inputs = left.produced / left.width, left.width, left.inputs
    layer, around = 2 * inputs * width, 2 * count + 2
    steps = 1 + settings.iterations
    independent = 2 * left.produced * inputs**2
    products = {
        "targets": 2 * texts.tokens * inputs * whole.width,
        "steps": steps * around * layer * some,
        "tried": (count + 1) * layer * some,
        "independent": 2 * some * inputs**2 + (2 * settings.iterations + 1) * independent,
        "consumer": texts.tokens * (count + 1) * layer,
    }
    values = SETUP + settings.iterations * (7 * count + 2)
    squares = width**2 + settings.iterations * left.produced * inputs
    return passes.gram(left, texts) + Work(
        {
            "products": sum(products.values()),
            "activation": width * (3 * some + texts.tokens),
            "elementwise": shapes.itemsize * width * (values * some + 3 * texts.tokens),
            "cholesky": cholesky_operations(width, inputs) + 2.0 * inputs**3,
            "memory64": 8.0 * 2 * squares,
            "calls": 60.0 * texts.batches,
        }
    )
