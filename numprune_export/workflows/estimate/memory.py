"""Resident bytes that a stage needs in addition to runtime and model.

Consecutive needs of a stage are added up: freed memory returns to the system only at its end.
"""

from __future__ import annotations

from numprune_export.calibration.gradients.losses import LOGITS_AT_ONCE
from numprune_export.measure.quality.divergence import ROWS_AT_ONCE
from numprune_export.numerics.matmul_precision import multiplies
from numprune_export.numerics.precision import Precision
from numprune_export.numerics.regression import CHUNK
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.workflows.estimate.gauss_newton import settings_for
from numprune_export.workflows.estimate.shapes import Shapes
from numprune_export.workflows.estimate.texts import Texts

SQUARES = 7
"""fp64 matrices of the widest site's inputs that are alive at once in a score or a refit."""
KERNEL = 0.65 * 2**20
"""Bytes of compiled code per shape of a reduced-precision product, measured with oneDNN 3.12;
independent of the matrix size."""
KERNELS = 1024
"""Maximum number of cached kernels."""
TEXT = 100.0
"""Bytes per byte of plain text while a tokenizer processes all of it at once."""
LOGIT_COPIES = 4
"""fp32 copies of logits while a loss or its gradient is computed."""


def hidden_states(shapes: Shapes, texts: Texts) -> float:
    """Hidden states of all calibration texts."""
    return texts.tokens * shapes.hidden * shapes.stream_itemsize


def held(
    dense: Shapes, small: Shapes, texts: Texts, repair: ClosedForm, precision: Precision
) -> float:
    """Activations that compensation keeps of one block for all texts: the attention output and the
    consumer's input; with a producer refit also the producers' inputs, targets and slopes."""
    short = multiplies(precision).itemsize
    most = 0.0
    for site, left in zip(dense.sites, small.sites, strict=True):
        settings = settings_for(site, left, repair)
        size = texts.tokens * left.width * dense.itemsize
        if settings is not None:
            tokens, out = texts.tokens / settings.token_stride, 4.0 * texts.tokens * left.inputs
            step = tokens * (short * (2 * left.inputs + left.produced) + 4.0 * left.inputs)
            size = texts.tokens * left.inputs * short + out / repair.token_stride
            size += max(step, texts.tokens * left.width * short + out)
        most = max(most, size)
    return 2 * hidden_states(dense, texts) + most


def activations(shapes: Shapes, texts: Texts, *, graph: bool = False) -> float:
    """Peak activations of one batch in one block; with `graph`, all that a backward pass needs."""
    widest = max(site.width for site in shapes.sites)
    values = 5 * shapes.hidden + 4 * widest
    if graph:
        values = 16 * shapes.hidden + sum(
            (8 if site.kind == "attention" else 6) * site.width
            for site in max(shapes.blocks, key=lambda block: sum(site.width for site in block))
        )
    return texts.batch_tokens * values * shapes.itemsize


def grams(shapes: Shapes) -> float:
    """Gram matrices of one block: sums, mirrored copies, and bytes while they are written."""
    return max(sum(4 * 4.0 * site.width**2 for site in block) for block in shapes.blocks)


def fisher(shapes: Shapes, texts: Texts) -> float:
    """Output Fisher sums, the inputs of every block for a batch, one block's graph, some logits."""
    sums = sum(8.0 * site.inputs**2 for site in shapes.sites)
    streams = len(shapes.blocks) * texts.batch_tokens * shapes.hidden * shapes.itemsize
    logits = min(LOGITS_AT_ONCE, texts.batch_tokens * shapes.head)
    graph = activations(shapes, texts, graph=True)
    return sums + streams + max(graph, LOGIT_COPIES * 4.0 * logits)


def gradients(shapes: Shapes, texts: Texts) -> float:
    """Autograd graph of the whole model for one batch."""
    return len(shapes.blocks) * activations(shapes, texts, graph=True)


def solving(shapes: Shapes) -> float:
    """fp64 linear system of the widest site, and its statistics."""
    return max(8.0 * (SQUARES * site.width**2 + 3 * site.inputs**2) for site in shapes.sites)


def divergence(shapes: Shapes, texts: Texts, stride: int) -> float:
    """Dense logits of all texts; pruned logits and copies for a batch; some as distributions."""
    value = 4.0 * shapes.head
    batch = texts.batch_tokens / stride
    return value * (texts.tokens / stride + 2 * batch + 6 * min(ROWS_AT_ONCE, batch))


def moments(shapes: Shapes, texts: Texts) -> float:
    """Targets of a block for all texts, buffered tokens, and fp64 sums."""
    widest = max(site.width for site in shapes.sites)
    waiting = (CHUNK + texts.batch_tokens) * (widest + shapes.hidden) * 4.0
    return 2 * hidden_states(shapes, texts) + 2 * waiting + solving(shapes)


def kernels(shapes: int, precision: Precision) -> float:
    """Kernels compiled for `shapes` shapes of products; fp32 kernels are negligible."""
    return 0.0 if precision == "highest" else KERNEL * min(shapes, KERNELS)
