"""Loading of a Hugging Face folder, dense or pruned, without running code from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from numprune_export.core.errors import InputError
from numprune_export.core.foreign import blamed_on_input
from numprune_export.models.checkpoint import modeling_numprune
from numprune_export.models.checkpoint.classes import auto_class
from numprune_export.models.checkpoint.config_check import require_sizes, require_units
from numprune_export.models.checkpoint.plain_folder import plain_folder
from numprune_export.models.checkpoint.tensor_check import expect, matching
from numprune_export.models.checkpoint.weight_files import read_json, tensor_count
from numprune_export.models.checkpoint.widths import read_section
from numprune_export.models.families import architecture_of, family_of


def read_model(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """Load the model on the CPU; `dtype` None: the dtype of the saved weights.

    Raises:
        InputError: the configuration is not valid, or the tensors do not match it.
    """
    config, factory = _config(folder), _factory(folder)
    expect(folder, _build(factory, config, folder))
    with (
        _tensors_only(folder),
        blamed_on_input(f"the weights of `{folder}` cannot be read", hint="download them again"),
        plain_folder(folder) as readable,
    ):
        model, info = factory.from_pretrained(
            readable,
            config=config,
            dtype="auto" if dtype is None else dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed in `info` instead of raised
            local_files_only=True,
        )
    return matching(folder, model, info)


@contextmanager
def _tensors_only(folder: Path) -> Iterator[None]:
    """Report pickles that contain more than tensors, which may be an attack."""
    try:
        yield
    except InputError as error:
        if not isinstance(error.__cause__, UnpicklingError):
            raise
        raise InputError(
            f"the `.bin` weights of `{folder}` are damaged or contain more than tensors",
            hint="give the checkpoint as safetensors",
        ) from error.__cause__


def folder_skeleton(folder: Path) -> PreTrainedModel:
    """The modules of the configuration, on the `meta` device.

    Raises:
        InputError: the configuration is not valid.
    """
    return _build(_factory(folder), _config(folder), folder)


def _factory(folder: Path) -> Any:
    """The class that builds the model: that of transformers, or ours for per-layer widths."""
    values = read_json(folder / "config.json")
    family = family_of(str(values.get("model_type")), None)
    architecture = architecture_of(family, values.get("architectures") or [])
    if "numprune" in values:
        section = read_section(values, folder)
        if section.layout == "per-layer":
            return modeling_numprune.CLASSES[architecture]
    return auto_class(architecture)


def _build(factory: Any, config: Any, folder: Path) -> PreTrainedModel:
    """Build the modules on `meta`, so that any error is due to the configuration."""
    build, where = getattr(factory, "from_config", factory), folder / "config.json"
    with (
        blamed_on_input(
            f"no model can be built from `{where}`",
            hint="download the file again",
            also=(ValueError,),  # raised by modeling_numprune, which cannot import this package
        ),
        torch.device("meta"),
    ):
        model: PreTrainedModel = build(config)
    require_units(model, family_of(model.config.model_type, None), where)
    return model


def _config(folder: Path) -> Any:
    where = folder / "config.json"
    require_sizes(read_json(where), where, tensor_count(folder))
    with (
        blamed_on_input(f"`{where}` is not a valid configuration", hint="download the file again"),
        plain_folder(folder) as readable,
    ):
        return AutoConfig.from_pretrained(readable, trust_remote_code=False, local_files_only=True)
