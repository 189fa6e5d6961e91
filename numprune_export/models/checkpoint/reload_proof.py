"""Proof that a saved checkpoint reloads as the model in memory: its logits are bit-equal.

Reloading in the same process proves little, since modules, caches and patched classes still exist.
The checkpoint is therefore loaded twice in a fresh Python process: by this package, and by
transformers alone.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.core.errors import ParityError
from numprune_export.core.fresh_process import run_module
from numprune_export.core.partial_files import scratch_folder
from numprune_export.models.checkpoint.reload_probe import STEP, loaders, logits_of
from numprune_export.models.residency import source_of


@dataclass(frozen=True)
class Proof:
    """Summary of a successful comparison."""

    loaders: tuple[str, ...]
    tokens: int
    dtype: str


def prove_reload(
    folder: Path,
    model: PreTrainedModel,
    tokens: Tensor,
    *,
    real: Tensor | None = None,
    types: Tensor | None = None,
    expected: Tensor | None = None,
    tick: Callable[[int], None] = lambda steps: None,
) -> Proof:
    """Reload `folder` in a fresh process and compare its logits with those of `model`.

    Args:
        folder: A folder written by `save`.
        model: The model that was saved, on any device; the fresh process uses the same one.
        tokens: (batch, length), int64, right-padded.
        real: (batch, length), bool, False at padding; None: there is none. Decoders ignore it.
        types: (batch, length), int64, token types; None: all 0.
        expected: Logits of a model that is no longer in memory, from `CarriedProof`.
        tick: Called with the number of steps just done, `proof_steps` in total.

    Inputs and logits are exchanged in a hidden folder beside `folder`.

    Raises:
        ParityError: the folder does not load, or a logit differs in any bit.
    """
    inputs = {"tokens": tokens}
    inputs |= {} if real is None else {"real": real}
    inputs |= {} if types is None else {"types": types}
    with scratch_folder(folder, "reload") as exchange:
        _write_request(exchange, folder, model, inputs)
        _run_probe(exchange, tick)
        reloaded = load_file(exchange / "logits.safetensors")
    expected = logits_of(model, inputs) if expected is None else expected
    tick(1)
    names = tuple(loaders(type(model).__name__))
    for loader in names:
        _compare(folder, loader, expected, reloaded[loader])
    counted = tokens.numel() if real is None else int(real.sum())
    return Proof(names, counted, str(expected.dtype).removeprefix("torch."))


def proof_steps(model: PreTrainedModel) -> int:
    """Steps of `prove_reload`: each loader loads and runs a model, and the model in memory runs."""
    return 2 * len(loaders(type(model).__name__)) + 1


def _write_request(
    exchange: Path, folder: Path, model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> None:
    content = {name: tensor.contiguous() for name, tensor in inputs.items()}
    save_file(content, exchange / "given.safetensors")
    request: dict[str, Any] = {
        "folder": str(folder.absolute()),
        "architecture": type(model).__name__,
        "threads": torch.get_num_threads(),
        "device": "cpu" if source_of(model) is not None else str(model.device),
    }
    (exchange / "request.json").write_text(json.dumps(request), encoding="utf-8")


def _run_probe(exchange: Path, tick: Callable[[int], None]) -> None:
    ended = run_module(
        "numprune_export.models.checkpoint.reload_probe",
        [str(exchange)],
        environment={"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(exchange / "modules")},
        on_line=lambda line: tick(1) if line == STEP else None,
    )
    if ended.code != 0:
        raise ParityError(
            f"the saved model does not load in a fresh process (exit {ended.code}): {ended.reason}",
            hint="free memory if it ran out; otherwise report this as a bug with the recipe",
        )


def _compare(folder: Path, loader: str, expected: Tensor, got: Tensor) -> None:
    if got.dtype == expected.dtype and torch.equal(got, expected):
        return
    same_shape = got.shape == expected.shape
    error = f"{(got.double() - expected.double()).abs().max():.1e}" if same_shape else "none"
    raise ParityError(
        f"`{folder}` reloaded by `{loader}` disagrees with the model in memory:"
        f" max abs error {error} on logits ({expected.dtype}, shape {tuple(expected.shape)}), not 0",
        hint="do not use this checkpoint: report this as a bug with the recipe",
    )
