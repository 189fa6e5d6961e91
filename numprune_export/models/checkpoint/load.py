"""Loading of dense and of pruned models."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import NumericalError
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.folder import folder_skeleton, read_model
from numprune_export.models.checkpoint.gguf import gguf_skeleton, read_gguf, read_gguf_tokenizer
from numprune_export.models.checkpoint.quiet import quiet
from numprune_export.models.checkpoint.source import Source
from numprune_export.models.checkpoint.tokenizer_files import read_tokenizer
from numprune_export.models.checkpoint.weight_files import read_json, weight_files
from numprune_export.models.checkpoint.widths import read_section
from numprune_export.models.families import family_of
from numprune_export.models.family import Family


@dataclass(frozen=True)
class Loaded:
    """A model on the CPU in eval mode, with its tokenizer, family and source."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    """None if the checkpoint has no tokenizer files."""
    family: Family
    source: Source


def load_source(source: Source, dtype: torch.dtype) -> Loaded:
    """Load a resolved source: a Hugging Face folder, a GGUF file, or a pruned folder.

    GGUF weights are de-quantised to `dtype`. No code from the checkpoint is run.

    Raises:
        InputError: a tensor is missing, unexpected or of the wrong shape, or a file is damaged.
        NumericalError: a weight is NaN or infinite in `dtype`.
        MissingExtraError: the file is GGUF and `gguf` or `accelerate` is not installed.
    """
    with quiet():
        if source.kind == "gguf":
            model, tokenizer = read_gguf(source.path, dtype)
        else:
            model, tokenizer = read_model(source.path, dtype), read_tokenizer(source.path)
    _refuse_non_finite(model, source)
    return Loaded(model.eval(), tokenizer, family_of(model.config.model_type, None), source)


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer, or None if there is none; no weights are read.

    Raises:
        InputError: the tokenizer cannot be read.
        MissingExtraError: the file is GGUF and `gguf` is not installed.
    """
    with quiet():
        if source.kind == "gguf":
            return read_gguf_tokenizer(source.path)
        return read_tokenizer(source.path)


def skeleton(source: Source) -> PreTrainedModel:
    """The model's modules without weights, with tensors on the `meta` device.

    Raises:
        InputError: the configuration is not valid.
        MissingExtraError: the file is GGUF and `gguf` is not installed.
    """
    with quiet():
        if source.kind == "gguf":
            return gguf_skeleton(source.path)
        return folder_skeleton(source.path)


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, verify_hashes: bool = False
) -> PreTrainedModel:
    """Load a pruned model: a plain transformers model in eval mode, on the CPU.

    Only the configuration and the weights are read, and they must match. Other files may change:
    the card may be edited, the model fine-tuned and saved in place. No code from the folder is run.

    Args:
        path: A folder written by numprune-export.
        dtype: Floating-point type of the weights; None: as saved.
        verify_hashes: Also compare the size and sha256 of every file with the folder's manifest.

    Raises:
        InputError: the folder was not written by numprune-export, its weights are damaged or do not
            match its configuration, or a hash differs.
    """
    folder = Path(path)
    read_section(read_json(folder / "config.json"), folder)
    if verify_hashes:
        manifest.verify(folder)
    weight_files(folder)
    with quiet():
        return read_model(folder, dtype).eval()


def _refuse_non_finite(model: PreTrainedModel, source: Source) -> None:
    for name, tensor in model.named_parameters():
        low, high = torch.aminmax(tensor.detach())
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise NumericalError(
                f"`{name}` of `{source.reference}` contains NaN or infinity in {tensor.dtype}",
                hint="use a checkpoint with finite weights, or a dtype with a wider range",
            )
