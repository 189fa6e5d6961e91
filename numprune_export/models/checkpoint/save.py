"""Saving of a pruned model as a self-contained folder.

If a config class of transformers can express the widths of all layers, the folder is a plain
Hugging Face checkpoint. Otherwise modeling_numprune.py is copied into it, and config.json contains
the dense values and the widths of each layer.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import OutputError
from numprune_export.models.checkpoint import manifest, modeling_numprune
from numprune_export.models.checkpoint.classes import auto_class
from numprune_export.models.checkpoint.config import dense_values, stock_values
from numprune_export.models.checkpoint.shards import BlockShards, writing
from numprune_export.models.checkpoint.widths import Section, layer_widths
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.families import architecture_of
from numprune_export.models.family import Family

MAX_SHARD_BYTES = 5 * 10**9


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    family: Family,
    folder: Path,
    record: Mapping[str, Any],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    shards: BlockShards | None = None,
) -> None:
    """Write weights, configs, tokenizer and manifest into an existing, empty folder.

    Args:
        model: The pruned (or dense) model, in any dtype, on any device. With `shards` the skeleton
            of a streamed model.
        record: Provenance for the `numprune` section of config.json: method, calibration hash,
            parent, versions. JSON values.
        max_shard_bytes: Larger weights are split into several safetensors files.
        shards: The blocks, which are in the folder already.

    Raises:
        OutputError: the folder is not empty, does not exist, or cannot be written.
    """
    if shards is None:
        require_empty(folder)
    with writing(folder):
        _write_config(model, family, folder, record)
        if model.can_generate() and model.generation_config is not None:
            # Not save_pretrained: it rejects settings of some published models.
            model.generation_config.to_json_file(folder / "generation_config.json")
        if shards is None:
            _write_weights(model, family, folder, max_shard_bytes)
        else:
            shards.close(_state(model, family))
        for shard in folder.glob("*.safetensors"):
            shutil.copymode(folder / "config.json", shard)  # safetensors writes for the owner only
        if tokenizer is not None:
            _write_tokenizer(tokenizer, folder)
        manifest.write(folder, None if shards is None else shards.hashes)


def save_in_blocks(model: PreTrainedModel, family: Family, folder: Path) -> None:
    """Write configuration and weights of a decoder, a file for each block, as it is read block by
    block.

    Args:
        model: In memory.
        family: Its declaration.
        folder: Existing and empty.

    Raises:
        OutputError: the folder cannot be written.
    """
    blocks = family.block_list(model)
    shards = BlockShards(folder, len(blocks), family.blocks)
    with writing(folder):
        _write_json(folder / "config.json", dense_values(model, family))
        if model.generation_config is not None:
            model.generation_config.to_json_file(folder / "generation_config.json")
    for index, block in enumerate(blocks):
        shards.add(block, index)
    shards.close(_state(model, family))


def require_empty(folder: Path) -> None:
    """Check that a folder exists and is empty.

    Raises:
        OutputError: it is not.
    """
    if not folder.is_dir() or any(folder.iterdir()):
        raise OutputError(f"`{folder}` is not an empty folder", hint="give an empty folder")


def _write_config(
    model: PreTrainedModel, family: Family, folder: Path, record: Mapping[str, Any]
) -> None:
    layers = layer_widths(model, family)
    values = stock_values(model, family, layers)
    section = Section(layout="per-layer" if values is None else "stock", layers=layers)
    if values is None:
        values = _per_layer_values(model, family)
        code = Path(modeling_numprune.__file__)
        shutil.copyfile(code, folder / code.name)
    values["numprune"] = {**record, **section.model_dump(mode="json")}
    _write_json(folder / "config.json", values)


def _per_layer_values(model: PreTrainedModel, family: Family) -> dict[str, Any]:
    architecture = architecture_of(family, [type(model).__name__])
    name = modeling_numprune.CLASSES[architecture].__name__
    trunk = modeling_numprune.TRUNKS[family.model_type].__name__
    return dense_values(model, family) | {
        "architectures": [name],
        "auto_map": {
            "AutoModel": f"modeling_numprune.{trunk}",
            auto_class(architecture).__name__: f"modeling_numprune.{name}",
        },
    }


def _write_weights(
    model: PreTrainedModel, family: Family, folder: Path, max_shard_bytes: int
) -> None:
    save_torch_state_dict(_state(model, family), folder, max_shard_size=max_shard_bytes)


def _state(model: PreTrainedModel, family: Family) -> dict[str, Tensor]:
    """All tensors by name; tied ones once."""
    state: dict[str, Tensor] = model.state_dict()
    # Task heads of encoders are not tied.
    if isinstance(family, RotaryDecoder) and family.ties_head(model):
        del state[f"{family.head}.weight"]
    return state


def _write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer with a class name that transformers 4 knows too."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.get("tokenizer_class") == "TokenizersBackend":
        values["tokenizer_class"] = "PreTrainedTokenizerFast"
        _write_json(path, values)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
