"""Plausibility checks of a configuration, before and after its modules are built on `meta`.

Some numbers cost time or memory before any weight is loaded: one list entry per layer, one name per
label. They are therefore compared with the weight files first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from torch import nn

from numprune_export.core.errors import InputError
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.models.family import Family, part

MOST_LAYERS = 2048
"""Limit if the number of tensors is unknown. Published models have less than a quarter of it."""
MOST_LABELS = 1 << 20
"""transformers creates a name for each label."""

_LAYERS = ("num_hidden_layers", "n_layers")
_HINT = "config.json and the weights must come from the same checkpoint"


def require_sizes(values: Mapping[str, Any], where: Path, tensors: int | None) -> None:
    """Check that the numbers of layers and of labels are plausible.

    Args:
        values: Content of config.json.
        tensors: Number of tensors in the weights; None: unknown.

    Raises:
        InputError: there are more layers than tensors, or more than `MOST_LABELS` labels.
    """
    for key in _LAYERS:
        require_layers(values.get(key), f"`{key}` in `{where}`", tensors)
    labels = values.get("num_labels")
    if _is_number(labels) and labels > MOST_LABELS:
        raise InputError(f"`num_labels` in `{where}` is {_short(labels)}", hint=_HINT)


def require_layers(count: Any, name: str, tensors: int | None) -> None:
    """Check that there are no more layers than tensors; a value that is not a number is ignored.

    Raises:
        InputError: there are more layers.
    """
    if not _is_number(count):
        return
    most, why = (
        (MOST_LAYERS, f"more than {MOST_LAYERS}")
        if tensors is None
        else (tensors, f"but the weights have only {tensors} tensors")
    )
    if count > most:
        raise InputError(f"{name} is {_short(count)}, {why}", hint=_HINT)


def require_units(model: nn.Module, family: Family, where: Path) -> None:
    """Check that the model has layers, no empty parameter, and consistent attention heads.

    Raises:
        InputError: the message names the first violation.
    """
    blocks = family.block_list(model)
    if not blocks:
        raise _impossible(where, "the model has no layers")
    for name, parameter in model.named_parameters():
        if parameter.numel() == 0:
            raise _impossible(where, f"`{name}` has the shape {tuple(parameter.shape)}")
    if isinstance(family, BidirectionalEncoder):
        _require_first_position(model, family, where)
    if isinstance(family, RotaryDecoder):
        for index, block in enumerate(blocks):
            _require_heads(part(block, "self_attn"), f"layer {index}", where)


def _require_first_position(model: Any, family: BidirectionalEncoder, where: Path) -> None:
    padding = model.config.pad_token_id
    if family.positions_follow_padding and not isinstance(padding, int):
        raise _impossible(where, f"positions count from `pad_token_id`, which is `{padding}`")


def _require_heads(attention: Any, layer: str, where: Path) -> None:
    dim = int(attention.head_dim)
    queries, keys, values = (
        int(linear.out_features)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if dim % 2:
        raise _impossible(where, f"the rotary head dimension {dim} in {layer} is odd")
    if queries % dim or keys % dim or keys != values:
        raise _impossible(
            where, f"the projections of {layer} are not multiples of the head dimension {dim}"
        )
    groups = getattr(attention, "query_groups", None)
    fits = queries % keys == 0 if groups is None else sum(groups) * dim == queries
    if not fits:
        heads = f"{queries // dim} query heads cannot share {keys // dim} KV heads"
        raise _impossible(where, f"in {layer} {heads}")


def _impossible(where: Path, reason: str) -> InputError:
    return InputError(f"no model can be built from `{where}`: {reason}", hint=_HINT)


def _short(number: float) -> str:
    text = str(number)
    return text if len(text) <= 20 else f"{text[:16]}… ({len(text)} digits)"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
