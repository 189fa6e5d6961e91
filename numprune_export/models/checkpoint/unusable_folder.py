"""Errors for folders without a model in Hugging Face format, with a hint by their content."""

from __future__ import annotations

import json
from pathlib import Path

from numprune_export.core.errors import InputError

_OTHER_FORMATS = (
    ("model_index.json", "a pipeline of `diffusers`", "give the folder of one of its models"),
    ("params.json", "a model in its authors' own format", "convert it to Hugging Face format"),
    ("consolidated.safetensors", "a model in Mistral's own format", "give its Hugging Face folder"),
    ("tf_model.h5", "weights of TensorFlow", "save it again as safetensors"),
    ("flax_model.msgpack", "weights of Flax", "save it again as safetensors"),
)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx")


def no_config(folder: Path) -> InputError:
    """The error for a folder that has no config.json."""
    return _error(folder, f"`{folder}` has no `config.json`", _config_hint(folder))


def no_weights(folder: Path, indexes: tuple[str, ...]) -> InputError:
    """The error for a folder with a config.json and no weights.

    Args:
        folder: The searched folder.
        indexes: File names of the indexes of sharded weights.
    """
    shards = sorted(folder.glob("*-of-*.safetensors")) or sorted(folder.glob("*-of-*.bin"))
    if shards:
        index = next(name for name in indexes if shards[0].suffix in name)
        return InputError(
            f"`{folder}` contains shards such as `{shards[0].name}`, but no `{index}`",
            hint="download the index as well",
        )
    hint = "download the model again; weights must be safetensors, GGUF or legacy `.bin` files"
    others = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHTS)
    if others:
        hint = f"it contains `{others[0]}`, but weights are read from `model.safetensors`"
    return _error(folder, f"`{folder}` contains no weights", hint)


def _error(folder: Path, fallback: str, hint: str) -> InputError:
    """An error that names the folder's format, if it is known."""
    if (folder / "adapter_config.json").is_file():
        base = _base_model(folder / "adapter_config.json")
        return InputError(
            f"`{folder}` contains an adapter (PEFT), not a model",
            hint=f"merge it into {base} with `merge_and_unload()`, save it and give its folder",
        )
    for name, content, remedy in _OTHER_FORMATS:
        if (folder / name).is_file():
            return InputError(f"`{folder}` contains {content}", hint=remedy)
    return InputError(fallback, hint=hint)


def _base_model(config: Path) -> str:
    try:
        name = json.loads(config.read_text(encoding="utf-8-sig"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    return f"`{name}`" if isinstance(name, str) else "its base model"


def _config_hint(folder: Path) -> str:
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return f"give the file: `{ggufs[0]}`"
    inner = sorted(path.parent for path in folder.glob("*/config.json"))
    inner += sorted(path.parent for path in folder.glob("snapshots/*/config.json"))
    if inner:
        return f"did you mean `{inner[-1]}`?"
    return "give a folder in Hugging Face format, or a `.gguf` file"
