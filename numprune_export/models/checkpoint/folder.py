"""The model of a Hugging Face folder, dense or pruned. No code from it is run."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedModel

from numprune_export.core.errors import InputError
from numprune_export.models.checkpoint import modeling_numprune
from numprune_export.models.checkpoint.classes import auto_class
from numprune_export.models.checkpoint.plain_folder import plain_folder
from numprune_export.models.checkpoint.tensor_check import expect, matching
from numprune_export.models.checkpoint.weight_files import first_line, read_json
from numprune_export.models.checkpoint.widths import read_section
from numprune_export.models.families import architecture_of, family_of


def read_model(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model on the CPU; `dtype` None keeps the one that the weights were saved in.

    Raises:
        InputError: the configuration is not valid, or the tensors do not match it.
    """
    config, factory = _config(folder), _factory(folder)
    expect(folder, _build(factory, config, folder))
    try:
        with plain_folder(folder) as readable:
            model, info = factory.from_pretrained(
                readable,
                config=config,
                dtype="auto" if dtype is None else dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # listed in `info` instead of raised
                local_files_only=True,
            )
    except UnpicklingError as error:
        raise InputError(
            f"the `.bin` weights of `{folder}` are damaged or hold more than tensors",
            hint="give the checkpoint as safetensors",
        ) from error
    return matching(folder, model, info)


def folder_skeleton(folder: Path) -> PreTrainedModel:
    """The modules that the configuration describes, on the `meta` device.

    Raises:
        InputError: the configuration is not valid.
    """
    return _build(_factory(folder), _config(folder), folder)


def _factory(folder: Path) -> Any:
    """What builds the model: transformers' own class, or ours for layers with their own widths."""
    values = read_json(folder / "config.json")
    family = family_of(str(values.get("model_type")), None)
    architecture = architecture_of(family, values.get("architectures") or [])
    if "numprune" in values:
        section = read_section(values, folder)
        if section.layout == "per-layer":
            return modeling_numprune.CLASSES[architecture]
    return auto_class(architecture)


def _build(factory: Any, config: Any, folder: Path) -> PreTrainedModel:
    """Build the modules without memory, so that only a bad configuration is blamed on it."""
    build = getattr(factory, "from_config", factory)
    try:
        with torch.device("meta"):
            model: PreTrainedModel = build(config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(
            f"no model can be built from `{folder / 'config.json'}`: {first_line(e)}",
            hint="download the file again",
        ) from e
    return model


def _config(folder: Path) -> Any:
    try:
        with plain_folder(folder) as readable:
            return AutoConfig.from_pretrained(
                readable, trust_remote_code=False, local_files_only=True
            )
    except (StrictDataclassError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"`{folder / 'config.json'}` is not a valid configuration: {first_line(error)}",
            hint="download the file again",
        ) from error
