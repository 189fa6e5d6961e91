"""Proof that a saved checkpoint is the model in memory: same logits, bit for bit, elsewhere.

A checkpoint that loads in the process that wrote it proves little: modules, caches and patched
classes are still around. So it is loaded again in a fresh Python process, twice: by this package,
and by transformers alone, as a user who does not have this package would.
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
from numprune_export.core.run_folder import scratch_folder
from numprune_export.models.checkpoint.reload_probe import STEP, loaders, logits_of


@dataclass(frozen=True)
class Proof:
    """What was compared, all of it bit-equal."""

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
    tick: Callable[[int], None] = lambda steps: None,
) -> Proof:
    """Reload `folder` in a fresh process and compare its logits with those of `model`.

    Args:
        folder: What `save` wrote.
        model: The model that was saved, on any device; the fresh process uses the same one.
        tokens: (batch, length), int64, right-padded.
        real: (batch, length), bool, False where padded; None: nothing is. Decoders do not look.
        types: (batch, length), int64, token types; None: all 0.
        tick: Told of `proof_steps` steps as they are done.

    Questions and answers are exchanged in a hidden folder beside `folder`.

    Raises:
        ParityError: the folder does not load, or a logit differs in any bit.
    """
    given = {"tokens": tokens}
    given |= {} if real is None else {"real": real}
    given |= {} if types is None else {"types": types}
    with scratch_folder(folder, "reload") as exchange:
        _ask(exchange, folder, model, given)
        _run_probe(exchange, tick)
        answers = load_file(exchange / "logits.safetensors")
    expected = logits_of(model, given)
    tick(1)
    ways = tuple(loaders(type(model).__name__))
    for loader in ways:
        _compare(folder, loader, expected, answers[loader])
    counted = tokens.numel() if real is None else int(real.sum())
    return Proof(ways, counted, str(expected.dtype).removeprefix("torch."))


def proof_steps(model: PreTrainedModel) -> int:
    """Of `prove_reload`: by each loader a model is loaded and run, and the one in memory is run."""
    return 2 * len(loaders(type(model).__name__)) + 1


def _ask(exchange: Path, folder: Path, model: PreTrainedModel, given: Mapping[str, Tensor]) -> None:
    content = {name: tensor.contiguous() for name, tensor in given.items()}
    save_file(content, exchange / "given.safetensors")
    request: dict[str, Any] = {
        "folder": str(folder.absolute()),
        "architecture": type(model).__name__,
        "threads": torch.get_num_threads(),
        "device": str(model.device),
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
            hint="if memory ran out, free some; else report this as a bug with the recipe",
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
