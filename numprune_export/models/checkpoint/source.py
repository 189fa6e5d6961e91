"""Resolution of a model reference to local files and a family.

A reference is one of these, tried in this order:
    package:NAME/path   a file or folder inside an installed Python package
    a path              a Hugging Face folder or a `.gguf` file; relative to each search folder
    organisation/name   a model on the Hugging Face hub

The architecture is read from config.json or the GGUF header; an unsupported one is rejected before
any weight is read or downloaded.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numprune_export.core.errors import InputError, RecipeError, UnsupportedModelError
from numprune_export.core.file_kind import stand_in_at
from numprune_export.export.artifact import sha256_of
from numprune_export.models.checkpoint import hub
from numprune_export.models.checkpoint.gguf_header import GgufHeader, read_header
from numprune_export.models.checkpoint.location import require
from numprune_export.models.checkpoint.weight_files import read_json, weight_files
from numprune_export.models.families import DECODERS, family_of
from numprune_export.models.family import Family

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class Source:
    """A model on this machine that is not loaded."""

    reference: str
    """As written in the recipe."""
    revision: str | None
    """The commit of a hub model; None for files."""
    kind: Literal["folder", "gguf"]
    path: Path
    model_type: str
    architectures: tuple[str, ...]
    family: Family
    weights: tuple[Path, ...]

    def fingerprint(self) -> str:
        """sha256 over the content of configuration, weights and tokenizer.

        It does not depend on paths and times.
        """
        if self.kind == "gguf":
            return sha256_of(self.path)
        others = [self.path / name for name in ("config.json", *_TOKENIZER)]
        files = sorted({*self.weights, *(path for path in others if path.is_file())})
        lines = [f"{path.name} {sha256_of(path)}\n" for path in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def resolve(
    reference: str, *, revision: str | None, search: Sequence[Path], weights: bool = True
) -> Source:
    """Find a model and its family; weights are not read.

    Args:
        reference: See the module docstring.
        revision: Branch, tag or commit of a hub model.
        search: Folders that a relative path is resolved against, in order.
        weights: False: safetensors weights are not downloaded and may be missing; only the model's
            shapes are available then.

    Raises:
        InputError: the path does not exist or leads outside its folder, or a file is missing or
            damaged.
        UnsupportedModelError: the architecture is unsupported, or the weights are quantised.
        HubError: the hub cannot be reached or refuses the request.
        MissingExtraError: the package of a `package:` reference is not installed.
        RecipeError: a revision is given for a model that is not on the hub.
    """
    path = require(reference, search)
    if path is None:
        return _from_hub(reference, revision, weights=weights)
    if revision is not None:
        raise RecipeError(
            f"`{reference}` is a local model and has no revision `{revision}`",
            hint="remove `revision`: it selects a version of a hub model",
        )
    if path.is_file():
        return _from_gguf(reference, path)
    return _from_folder(reference, path, weights=weights)


def _from_hub(reference: str, revision: str | None, *, weights: bool) -> Source:
    folder = hub.config_folder(reference, revision)
    if weights:
        _family_of_config(folder)
        folder = hub.model_folder(reference, revision)
    return _from_folder(reference, folder, folder.name, weights=weights)


def _from_folder(
    reference: str, folder: Path, commit: str | None = None, *, weights: bool
) -> Source:
    model_type, architectures, family = _family_of_config(folder)
    files = weight_files(folder) if weights else ()
    return Source(reference, commit, "folder", folder, model_type, architectures, family, files)


def _family_of_config(folder: Path) -> tuple[str, tuple[str, ...], Family]:
    config = read_json(folder / "config.json")
    model_type, names = config.get("model_type"), config.get("architectures") or []
    if not isinstance(model_type, str) or not isinstance(names, list):
        raise InputError(
            f"`{folder / 'config.json'}` has no `model_type`",
            hint="give a folder in Hugging Face format",
        )
    architectures = [str(name) for name in names]
    family = family_of(model_type, architectures)
    if config.get("quantization_config"):  # null in some published files
        raise UnsupportedModelError(
            f"`{folder}` contains quantised weights, which cannot be pruned",
            hint="give the checkpoint it was quantised from, or a GGUF file",
        )
    if config.get("is_decoder"):
        raise UnsupportedModelError(
            f"`{folder}` contains a `{model_type}` converted to a decoder (`is_decoder`)",
            hint="give a decoder such as `llama`, or an encoder with full attention",
        )
    _require_start_and_end(folder, config, architectures)
    return model_type, tuple(architectures), family


def _require_start_and_end(
    folder: Path, config: dict[str, Any], architectures: Sequence[str]
) -> None:
    labels = config.get("id2label") or {"0": "", "1": ""}
    if not isinstance(labels, dict):
        raise InputError(
            f"`id2label` in `{folder / 'config.json'}` is not an object",
            hint='it maps ids to class names, for example {"0": "no", "1": "yes"}',
        )
    outputs = config.get("num_labels", len(labels))
    if outputs != 2 and any(name.endswith("ForQuestionAnswering") for name in architectures):
        raise UnsupportedModelError(
            f"`{folder}` answers questions with {outputs} outputs per token, not start and end",
            hint="give a model with two labels, or with another task head",
        )


def _from_gguf(reference: str, path: Path) -> Source:
    if path.suffix != ".gguf":
        raise InputError(
            f"`{path}` is neither a folder nor a `.gguf` file",
            hint="give the folder that contains `config.json`, or a `.gguf` file",
        )
    kind = stand_in_at(path)
    if kind is not None:
        raise InputError(f"`{path}` is {kind.name}", hint=kind.hint)
    header = read_header(path)
    model_type = _gguf_model_type(header)
    family = family_of(model_type, None)
    if model_type not in DECODERS:
        raise UnsupportedModelError(
            f"`{path}` contains the encoder `{model_type}`, which is read from safetensors only",
            hint="give the model as a Hugging Face folder",
        )
    _require_readable_features(path, header)
    return Source(reference, None, "gguf", path, model_type, family.architectures, family, (path,))


def _gguf_model_type(header: GgufHeader) -> str:
    """The model type. llama.cpp stores Mistral as `llama`; transformers distinguishes by name."""
    architecture = header.architecture
    if (
        architecture == "llama"
        and "mistral" in str(header.metadata.get("general.name", "")).lower()
    ):
        return "mistral"
    return architecture


def _require_readable_features(path: Path, header: GgufHeader) -> None:
    """Reject GGUF features that transformers ignores: the model would be silently wrong."""
    prefix = header.architecture
    scaling = header.metadata.get(f"{prefix}.rope.scaling.type", "none")
    try:
        experts, parts = (
            header.integer(f"{prefix}.expert_count", 0),
            header.integer("split.count", 1),
        )
    except ValueError as error:
        raise InputError(
            f"`{path}` is not a readable GGUF file: {error}", hint="download the file again"
        ) from None
    unsupported = {
        "a mixture of experts": experts > 0,
        "rotary scaling": scaling != "none" or "rope_freqs.weight" in header.tensors,
        "only one part of a split file": parts > 1,
    }
    for feature, present in unsupported.items():
        if present:
            raise UnsupportedModelError(
                f"`{path}` contains {feature}, which cannot be read from GGUF",
                hint="give the model as a Hugging Face folder",
            )
