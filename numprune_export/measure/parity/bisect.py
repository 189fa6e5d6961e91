"""Where a wrong export goes wrong: the same target with only the first layers of the model.

A model cut after k layers is exported, opened and compared like the whole one, so nothing has to be
read out of the middle of an engine, and no output is added that would change how it is fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from numprune_export.models.family import Family


def first_wrong_layer(layers: int, wrong: Callable[[int], bool]) -> int | None:
    """Index of the first layer with which a cut model is wrong, by halving.

    Args:
        layers: How many the model has.
        wrong: Whether the model cut after this many layers, from 1 to `layers`, is wrong. One that is
            wrong stays so with more layers.

    Returns:
        The layer's index from 0; None where the whole model, made once more, is right.
    """
    right, bad = 0, layers
    while bad - right > 1:
        middle = (right + bad) // 2
        if wrong(middle):
            bad = middle
        else:
            right = middle
    if bad == layers and not wrong(layers):
        return None
    return bad - 1


@contextmanager
def cut(model: PreTrainedModel, family: Family, layers: int) -> Iterator[PreTrainedModel]:
    """The model with its first `layers` blocks only, for the time of a `with`."""
    blocks = model.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    rest = list(blocks[layers:])
    try:
        del blocks[layers:]
        yield model
    finally:
        blocks.extend(rest)
