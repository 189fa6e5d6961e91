"""Load a model to prune, or a pruned one, and refuse what transformers would only warn about.

transformers fills a missing tensor with random numbers and drops one that it does not expect.
Both make a different network, so both are errors here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from numprune_export.checkpoint import manifest, modeling_numprune
from numprune_export.checkpoint.quiet import quiet
from numprune_export.checkpoint.source import Source
from numprune_export.checkpoint.weights import read_json, weight_files
from numprune_export.checkpoint.widths import read_section
from numprune_export.errors import InputError, NumericalError
from numprune_export.families import family_of
from numprune_export.family import RotaryDecoder
from numprune_export.optional import require

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_ATTENTION = "sdpa"


@dataclass(frozen=True)
class Loaded:
    """A model on the CPU in eval mode, with what belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    """None where the checkpoint has no tokenizer files."""
    family: RotaryDecoder
    source: Source


def load_source(source: Source, dtype: torch.dtype) -> Loaded:
    """Load what `resolve` found: a Hugging Face folder, a GGUF file, or a pruned folder of ours.

    GGUF weights are de-quantised to `dtype`. No code from the checkpoint is run.

    Raises:
        InputError: a tensor is missing, unexpected or of the wrong shape, or a file is damaged.
        NumericalError: a weight is NaN or infinite in `dtype`.
        MissingExtraError: the file is GGUF and `gguf` or `accelerate` is not installed.
    """
    with quiet():
        if source.kind == "gguf":
            model, tokenizer = _from_gguf(source.path, dtype)
        else:
            model, tokenizer = _from_folder(source.path, dtype), _tokenizer(source.path)
    _refuse_non_finite(model, source)
    family = family_of(model.config.model_type, None)
    return Loaded(model.eval(), tokenizer, family, source)


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, verify_hashes: bool = False
) -> PreTrainedModel:
    """Load a pruned model: a plain transformers model in eval mode, on the CPU.

    The sizes of all files are compared with the folder's manifest. No code from the folder is run.

    Args:
        path: A folder that numprune-export wrote.
        dtype: Floating-point type of the weights; None: as saved.
        verify_hashes: Also compare the sha256 of every file.

    Raises:
        InputError: the folder is not one of ours, or a file is missing or changed.
    """
    folder = Path(path)
    read_section(read_json(folder / "config.json"), folder)
    if (folder / manifest.NAME).exists() or verify_hashes:
        manifest.verify(folder, hashes=verify_hashes)
    weight_files(folder)
    with quiet():
        return _from_folder(folder, dtype).eval()


def _from_folder(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    values = read_json(folder / "config.json")
    config = _config(folder)
    factory: Any = AutoModelForCausalLM
    if "numprune" in values and read_section(values, folder).layout == "per-layer":
        factory = modeling_numprune.CLASSES[config.model_type]
    return _checked(
        folder,
        *factory.from_pretrained(
            folder,
            config=config,
            dtype="auto" if dtype is None else dtype,
            attn_implementation=_ATTENTION,
            output_loading_info=True,
            # A wrong shape is then listed instead of raised, and named by _checked.
            ignore_mismatched_sizes=True,
            local_files_only=True,
        ),
    )


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (StrictDataclassError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"`{folder / 'config.json'}` is not a valid configuration: {_first_line(error)}",
            hint="download the file again",
        ) from error


def _from_gguf(
    path: Path, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    require("gguf", extra="gguf")
    require("accelerate", extra="gguf")
    from transformers import GgufConfig

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=dtype,
            attn_implementation=_ATTENTION,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, IndexError, KeyError, RuntimeError) as error:
        raise InputError(
            f"`{path}` cannot be read as a model: {_first_line(error)}",
            hint="download the file again, or give the model as a Hugging Face folder",
        ) from error
    return _checked(path, model, info), tokenizer


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the tokenizer of `{folder}` cannot be read: {_first_line(error)}",
            hint="download the tokenizer files again",
        ) from error


def _checked(path: Path, model: PreTrainedModel, info: dict[str, Any]) -> PreTrainedModel:
    for problem in ("missing", "unexpected", "mismatched"):
        found = sorted(map(str, info[f"{problem}_keys"]))
        if found:
            raise InputError(
                f"`{path}` does not match its configuration: {len(found)} {problem} tensors,"
                f" the first is `{found[0]}`",
                hint="config.json and the weights must come from the same checkpoint",
            )
    return model


def _refuse_non_finite(model: PreTrainedModel, source: Source) -> None:
    for name, tensor in model.named_parameters():
        low, high = torch.aminmax(tensor.detach())
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise NumericalError(
                f"`{name}` of `{source.reference}` holds NaN or infinity in {tensor.dtype}",
                hint="use a checkpoint with finite weights, or a dtype with a wider range",
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
