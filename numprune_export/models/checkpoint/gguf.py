"""Loading of the model and tokenizer of a GGUF file; weights are de-quantised."""

import io
from contextlib import AbstractContextManager, redirect_stderr
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from numprune_export.core.foreign import blamed_on_input
from numprune_export.core.optional import require
from numprune_export.models.checkpoint.config_check import require_layers, require_units
from numprune_export.models.checkpoint.gguf_header import read_header
from numprune_export.models.checkpoint.tensor_check import matching
from numprune_export.models.families import family_of


def read_gguf(
    path: Path, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load the model on the CPU in `dtype`, and the tokenizer if the file contains one.

    Raises:
        InputError: the file is damaged, or lacks tensors that its architecture has.
        MissingExtraError: `gguf` or `accelerate` is not installed.
    """
    require("gguf", extra="gguf")
    require("accelerate", extra="gguf")
    # The GGUF reader of transformers prints a progress bar that cannot be disabled.
    with redirect_stderr(io.StringIO()):
        _skeleton(path)
        with _readable(path):
            return _model(path, dtype), _tokenizer(path)


def read_gguf_tokenizer(path: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer if the file contains one.

    Raises:
        InputError: the tokenizer cannot be read.
        MissingExtraError: `gguf` is not installed.
    """
    require("gguf", extra="gguf")
    with _readable(path):
        return _tokenizer(path)


def gguf_skeleton(path: Path) -> PreTrainedModel:
    """The modules of the file's header, on the `meta` device.

    Raises:
        InputError: the header is damaged.
        MissingExtraError: `gguf` is not installed.
    """
    require("gguf", extra="gguf")
    return _skeleton(path)


def _skeleton(path: Path) -> PreTrainedModel:
    header = read_header(path)
    key = f"{header.architecture}.block_count"
    require_layers(header.metadata.get(key), f"`{key}` in `{path}`", len(header.tensors))
    with _readable(path), torch.device("meta"):
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    require_units(model, family_of(model.config.model_type, None), path)
    return model


def _readable(path: Path) -> AbstractContextManager[None]:
    return blamed_on_input(
        f"`{path}` cannot be read as a model",
        hint="download the file again, or give the model as a Hugging Face folder",
    )


def _model(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import GgufConfig

    model, info = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=dtype,
        attn_implementation="sdpa",
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # listed in `info` instead of raised
        local_files_only=True,
    )
    return matching(path, model, info)


def _tokenizer(path: Path) -> PreTrainedTokenizerBase | None:
    if "tokenizer.ggml.model" not in read_header(path).metadata:
        return None
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
