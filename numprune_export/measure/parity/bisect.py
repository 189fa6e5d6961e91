"""Bisection of a wrong export: the first layer with which it differs from PyTorch.

The model truncated after k layers is exported, opened and compared like the whole model. No
intermediate tensor has to be read from an engine, and no added output changes its fusions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from numprune_export.models.family import Family


def first_wrong_layer(layers: int, wrong: Callable[[int], bool]) -> int | None:
    """Find the first layer with which a truncated model is wrong, by bisection.

    Args:
        layers: Number of layers of the model.
        wrong: Whether the model with its first n layers is wrong, for n from 1 to `layers`. A wrong
            model is assumed to stay wrong with more layers.

    Returns:
        Index of the layer, from 0; None if the whole model, exported again, is right.
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
    """The model with its first `layers` blocks only, within a `with` statement."""
    blocks = model.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    rest = list(blocks[layers:])
    try:
        del blocks[layers:]
        yield model
    finally:
        blocks.extend(rest)
