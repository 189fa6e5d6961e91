"""Work of a refit of an MLP's producers; see `numerics.gauss_newton`."""

from __future__ import annotations

from math import ceil

from numprune_export.numerics.gauss_newton import CHUNK, TRIED
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.workflows.estimate import forward_passes
from numprune_export.workflows.estimate.linear_algebra import cholesky_operations
from numprune_export.workflows.estimate.shapes import Shapes, Sublayer
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work

SETUP = 20.0
"""Values read or written per token and unit, before and after the iterations."""


def settings_for(whole: Sublayer, left: Sublayer, repair: ClosedForm) -> ProducerRefit | None:
    """Settings of the producer refit; None: the producers of this site are not refitted."""
    settings, gone = repair.producers, whole.width - left.width
    if settings is None or whole.kind != "mlp":
        return None
    # The remaining width is rounded.
    return settings if gone >= settings.least * whole.width - whole.unit else None


def refit(
    shapes: Shapes, whole: Sublayer, left: Sublayer, texts: Texts, repair: ClosedForm
) -> Work:
    """Refit of one MLP: targets of the dense MLP, Gauss-Newton steps, statistics and outputs.

    Args:
        shapes: Shapes of the model.
        whole: The site before pruning.
        left: The site after pruning.
        texts: Texts of the compensation.
        repair: Settings of the compensation; `producers` must be set.
    """
    settings = repair.producers
    assert settings is not None
    fitted, read = texts.strided(repair.token_stride), texts.strided(settings.token_stride)
    tokens, count = read.tokens, left.produced / left.width
    width, inputs = left.width, left.inputs
    layer, around = 2 * inputs * width, 2 * count + 2
    steps = 1 + settings.iterations
    independent = 2 * left.produced * inputs**2
    products = {
        "targets": 2 * fitted.tokens * inputs * (whole.produced + whole.width),
        "steps": steps * around * layer * tokens,
        "tried": (count + 1) * layer * _tried(tokens),
        "independent": (2 * settings.iterations + 1) * independent,
        "units": texts.tokens * count * layer,
    }
    values = SETUP + settings.iterations * (7 * count + 2)
    squares = width**2 + settings.iterations * left.produced * inputs
    norm = 7 * shapes.hidden if shapes.causal else 0
    sums = fitted.tokens * layer + 2 * tokens * inputs**2
    return (
        forward_passes.gram(whole, read)
        + forward_passes.gram(left, fitted)
        + _outputs(shapes, left, texts)
        + Work(
            {
                "products": sum(products.values()),
                "grams": sums,
                "products64": 2.0 * inputs * width**2,
                "activation": width * (3 * tokens + texts.tokens) + whole.width * fitted.tokens,
                "elementwise": shapes.itemsize
                * (
                    width * (values * tokens + 2 * texts.tokens + fitted.tokens)
                    + norm * texts.tokens
                ),
                "cholesky": cholesky_operations(width, inputs) + 2.0 * inputs**3,
                "memory64": 8.0 * 2 * squares,
                "calls": 60.0 * texts.batches,
            }
        )
    )


def _outputs(shapes: Shapes, left: Sublayer, texts: Texts) -> Work:
    """Outputs of the consumer, multiplied as the fit is and not in the model's dtype."""
    amounts = dict(forward_passes.consuming(shapes, left, texts).amounts)
    amounts["products"] = amounts.pop("layers")
    return Work(amounts)


def _tried(tokens: float) -> float:
    """Tokens on which a step is evaluated."""
    return min(tokens, ceil(ceil(tokens / CHUNK) / TRIED) * CHUNK)
