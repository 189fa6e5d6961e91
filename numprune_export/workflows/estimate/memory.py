"""Resident bytes that a stage needs beside the runtime and the model.

What a stage needs one after the other is added up: freed memory goes back to the system at its end.
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
"""Of the code that is compiled and kept for each shape of a product of shorter numbers, measured with
oneDNN 3.12; a matrix's size does not matter."""
KERNELS = 1024
"""Of them are kept at most."""
TEXT = 100.0
"""Per byte of plain text that a tokenizer has read and cut, all of it at once."""
LOGIT_COPIES = 4
"""Copies of logits in fp32 while their loss or its gradient is taken."""


def hidden_states(shapes: Shapes, texts: Texts) -> float:
    """Of all calibration texts."""
    return texts.tokens * shapes.hidden * shapes.itemsize


def held(
    dense: Shapes, small: Shapes, texts: Texts, repair: ClosedForm, precision: Precision
) -> float:
    """What a repair keeps of one block for all texts: the output of its attention, and of the sublayer
    that is repaired what reaches its consumer; or, where producers are refitted, their inputs, some
    targets, and slopes or what reaches the consumer."""
    short = multiplies(precision).itemsize
    most = 0.0
    for one, left in zip(dense.sites, small.sites, strict=True):
        settings = settings_for(one, left, repair)
        found = texts.tokens * left.width * dense.itemsize
        if settings is not None:
            some, out = texts.tokens / settings.token_stride, 4.0 * texts.tokens * left.inputs
            step = some * (short * (2 * left.inputs + left.produced) + 4.0 * left.inputs)
            found = texts.tokens * left.inputs * short + out / repair.token_stride
            found += max(step, texts.tokens * left.width * short + out)
        most = max(most, found)
    return 2 * hidden_states(dense, texts) + most


def activations(shapes: Shapes, texts: Texts, *, graph: bool = False) -> float:
    """Of one batch in one block: the widest values at once; or all that a backward pass needs."""
    widest = max(one.width for one in shapes.sites)
    values = 5 * shapes.hidden + 4 * widest
    if graph:
        values = 16 * shapes.hidden + sum(
            (8 if one.kind == "attention" else 6) * one.width
            for one in max(shapes.blocks, key=lambda block: sum(each.width for each in block))
        )
    return texts.batch_tokens * values * shapes.itemsize


def grams(shapes: Shapes) -> float:
    """Of one block: the sums, mirrored, and as bytes on their way to a file."""
    return max(sum(4 * 4.0 * one.width**2 for one in block) for block in shapes.blocks)


def fisher(shapes: Shapes, texts: Texts) -> float:
    """All sums of outputs, the inputs of every block for a batch, one block's graph, some logits."""
    sums = sum(8.0 * one.inputs**2 for one in shapes.sites)
    streams = len(shapes.blocks) * texts.batch_tokens * shapes.hidden * shapes.itemsize
    logits = min(LOGITS_AT_ONCE, texts.batch_tokens * shapes.head)
    graph = activations(shapes, texts, graph=True)
    return sums + streams + max(graph, LOGIT_COPIES * 4.0 * logits)


def gradients(shapes: Shapes, texts: Texts) -> float:
    """The whole model's graph of one batch."""
    return len(shapes.blocks) * activations(shapes, texts, graph=True)


def solving(shapes: Shapes) -> float:
    """Equations of the widest site, fp64, and its statistics."""
    return max(8.0 * (SQUARES * one.width**2 + 3 * one.inputs**2) for one in shapes.sites)


def divergence(shapes: Shapes, texts: Texts, every: int) -> float:
    """The dense model's logits for all texts; a pruned one's for a batch, the real ones copied; some of
    them as distributions."""
    value = 4.0 * shapes.head
    batch = texts.batch_tokens / every
    return value * (texts.tokens / every + 2 * batch + 6 * min(ROWS_AT_ONCE, batch))


def moments(shapes: Shapes, texts: Texts) -> float:
    """Targets of a block for all texts; tokens that wait to be multiplied; sums in fp64."""
    widest = max(one.width for one in shapes.sites)
    waiting = (CHUNK + texts.batch_tokens) * (widest + shapes.hidden) * 4.0
    return 2 * hidden_states(shapes, texts) + 2 * waiting + solving(shapes)


def kernels(shapes: int, products: Precision) -> float:
    """Compiled for so many shapes of products; those of plain fp32 take next to nothing."""
    return 0.0 if products == "highest" else KERNEL * min(shapes, KERNELS)
