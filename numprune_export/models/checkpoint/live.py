"""Conversion of a pruned model in memory to the class and config of a saved pruned model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import PreTrainedModel

from numprune_export.models.checkpoint import modeling_numprune
from numprune_export.models.checkpoint.widths import Section, layer_widths
from numprune_export.models.families import architecture_of
from numprune_export.models.family import Family


def become_reloadable(model: Any, family: Family) -> PreTrainedModel:
    """Give a pruned model the class that its saved folder loads as, in place.

    The new class is a subclass of the transformers class, so `generate`, `Trainer` and adapters
    work. `save_pretrained` writes the widths of each layer and the code that reads them.

    Args:
        model: The pruned model. Its config, shared with the dense model, is replaced by a copy.
        family: Of the model.

    Returns:
        The same object.
    """
    layers = layer_widths(model, family)
    architecture = architecture_of(family, [type(model).__name__])
    cls: Any = modeling_numprune.CLASSES[architecture]
    config = copy.deepcopy(model.config)
    config.architectures = [cls.__name__]
    config.numprune = Section(layout="per-layer", layers=layers).model_dump(mode="json")
    _replace_config(model, model.config, config)
    model.__class__ = cls
    pruned: PreTrainedModel = model
    return pruned


def _replace_config(model: Any, old: Any, new: Any) -> None:
    for module in model.modules():
        for name in ("config", "shared_config"):
            if getattr(module, name, None) is old:
                setattr(module, name, new)


def take_ownership(model: PreTrainedModel, dense: PreTrainedModel) -> None:
    """Copy every parameter that a pruned model shares with the dense model.

    Training one model then does not change the other. Tied parameters stay tied.
    """
    shared = {parameter.data_ptr() for parameter in dense.parameters()}
    own: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.data_ptr() in shared:
                if id(parameter) not in own:
                    copied = parameter.detach().clone()
                    own[id(parameter)] = torch.nn.Parameter(copied, parameter.requires_grad)
                module.register_parameter(name, own[id(parameter)])
