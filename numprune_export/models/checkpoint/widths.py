"""The `numprune` section of config.json: how wide each layer of a pruned model is."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import nn

from numprune_export.core.errors import InputError
from numprune_export.models.checkpoint.modeling_numprune import Emptied
from numprune_export.models.family import Family
from numprune_export.models.site import Kind


class EmptiedSublayer(BaseModel):
    """A sublayer that has lost all its units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    consumer: str
    """Path of the linear layer of which only the bias is left."""


class LayerWidths(BaseModel):
    """One block; module paths are relative to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linears: dict[str, tuple[PositiveInt, PositiveInt, bool]]
    """Path to (out_features, in_features, has_bias)."""
    attributes: dict[str, PositiveInt]
    """Path to the number that the forward pass of transformers reads there."""
    emptied: dict[str, EmptiedSublayer] = {}
    """By the path of what computed the units."""
    groups: dict[str, tuple[PositiveInt, ...]] = {}
    """Query heads of each KV head where these numbers differ, by the path of the attention."""


class Section(BaseModel):
    """What a pruned folder says about itself; a run adds its record: method, parent, versions."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format_version: Literal[1] = 1
    layout: Literal["stock", "per-layer"]
    """`stock`: the config is a plain one of transformers. `per-layer`: needs modeling_numprune."""
    layers: tuple[LayerWidths, ...]


def layer_widths(model: nn.Module, family: Family) -> tuple[LayerWidths, ...]:
    """The sizes of every linear layer of every block, from the tensors themselves."""
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
    """The section of a parsed config.json.

    Raises:
        InputError: there is none, or this version cannot read it.
    """
    if "numprune" not in config:
        raise InputError(
            f"`{where}` is not a folder that numprune-export has written",
            hint="load a dense model with transformers, or name it as `model` in a recipe",
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
