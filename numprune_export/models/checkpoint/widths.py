"""The `numprune` section of config.json: the widths of each layer of a pruned model."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import nn

from numprune_export.core.errors import InputError
from numprune_export.models.checkpoint.modeling_numprune import Emptied
from numprune_export.models.family import Family
from numprune_export.models.site import Kind


class EmptiedSublayer(BaseModel):
    """A sublayer without units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    consumer: str
    """Path of the linear layer that keeps only its bias."""


class LayerWidths(BaseModel):
    """Widths of one block; module paths are relative to the block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linears: dict[str, tuple[PositiveInt, PositiveInt, bool]]
    """(out_features, in_features, has_bias) by path."""
    attributes: dict[str, PositiveInt]
    """Values that the forward pass of transformers reads, by attribute path."""
    emptied: dict[str, EmptiedSublayer] = {}
    """By the path of the replaced module."""
    groups: dict[str, tuple[PositiveInt, ...]] = {}
    """Query heads of each KV head by the path of the attention, only if the numbers differ."""


class Section(BaseModel):
    """Description of a pruned folder; a run adds its record: method, parent, versions."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format_version: Literal[1] = 1
    layout: Literal["stock", "per-layer"]
    """`stock`: a plain transformers config. `per-layer`: needs modeling_numprune."""
    layers: tuple[LayerWidths, ...]


def layer_widths(model: nn.Module, family: Family) -> tuple[LayerWidths, ...]:
    """The sizes of every linear layer of every block, read from the tensors."""
    return tuple(
        LayerWidths(
            linears={
                path: (*module.weight.shape, module.bias is not None)
                for path, module in block.named_modules()
                if isinstance(module, nn.Linear)
            },
            attributes=family.attributes(block),
            emptied={
                path: EmptiedSublayer.model_validate(vars(module), extra="ignore")
                for path, module in block.named_modules()
                if isinstance(module, Emptied)
            },
            groups={
                path: module.query_groups
                for path, module in block.named_modules()
                if len(set(getattr(module, "query_groups", ()))) > 1
            },
        )
        for block in family.block_list(model)
    )


def read_section(config: dict[str, Any], where: object) -> Section:
    """Read the section of a parsed config.json.

    Raises:
        InputError: it is missing, or this version cannot read it.
    """
    if "numprune" not in config:
        raise InputError(
            f"`{where}` was not written by numprune-export",
            hint="load a dense model with transformers, or give it as `model` in a recipe",
        )
    try:
        return Section.model_validate(config["numprune"])
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, ("numprune", *first["loc"])))
        raise InputError(
            f"config.json of `{where}` is not valid at `{at}`: {first['msg'].lower()}",
            hint="upgrade numprune-export, or prune the model again",
        ) from None
