"""Pruning of a model in memory: the stages of a run, in a temporary folder.

Gram matrices that a step after the score reads are stored on disk, since those of all sites may not
fit into memory.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.halving import watched
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import open_folder
from numprune_export.data.corpus import DOCUMENT_SEPARATOR
from numprune_export.models.block_runner import device_of
from numprune_export.models.checkpoint.live import become_reloadable, take_ownership
from numprune_export.models.checkpoint.load import Loaded
from numprune_export.models.checkpoint.source import Source
from numprune_export.models.device import Placement
from numprune_export.models.families import family_of
from numprune_export.models.full_device import full_device_named
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.opening import kind_of
from numprune_export.pipeline.requirements import require_budget
from numprune_export.pipeline.rounds import planned
from numprune_export.pipeline.stages.compensate import compensated
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.recover.training import Recovery
from numprune_export.recipe import Recipe, parse
from numprune_export.recipe.reading import assign

Texts = str | Path | Sequence[str] | Sequence[Mapping[str, Any]]
"""A file, texts, or labelled examples like the rows of a labelled JSONL file."""

WINDOWS = 64
"""Maximum number of calibration windows."""
WINDOW = 512
"""Maximum tokens per window."""


class LiveDense(Dense):
    """A dense model in memory. See Dense."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        *,
        single_query_heads: bool = False,
    ) -> None:
        model_type, architecture = str(model.config.model_type), type(model).__name__
        family = family_of(model_type, [architecture])
        source = Source(
            "a model in memory", None, "folder", Path(), model_type, (architecture,), family, ()
        )
        precision = str(next(model.parameters()).dtype).removeprefix("torch.")
        super().__init__(source, precision, single_query_heads=single_query_heads)
        self._model, self._tokenizer = model, tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names, dtypes, shapes and values of all tensors."""
        digest = hashlib.sha256()
        for name, tensor in self._model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def placement(self) -> Placement:
        """The model's own device."""
        return Placement(device_of(self._model), "the model's own")

    @cached_property
    def loaded(self) -> Loaded:
        """The model itself."""
        return Loaded(self._model, self._tokenizer, self.family, self.source)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The model itself, which has all shapes."""
        return self._model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        return self._tokenizer


@dataclass(frozen=True)
class Live:
    """A pruned model in memory, its plan and its recipe."""

    model: PreTrainedModel
    plan: Plan
    recipe: Recipe


def prune_live(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Texts,
    settings: Mapping[str, Any],
    observer: Observer,
) -> Live:
    """Prune a copy of a model in memory.

    Args:
        model: Of a supported family, on one device, on which it is pruned.
        tokenizer: Of the model.
        texts: Calibration texts.
        settings: Recipe keys except `model`, `evaluation` and `targets`, dotted or nested.
        observer: Notified of progress.

    Raises:
        NumpruneError: see `errors`.
    """
    _require_usable(model)
    if "device" in settings:
        raise RecipeError(
            "`device` is a setting of runs: a model in memory is pruned on its own device",
            hint="omit it, and move the model to the device",
        )
    with tempfile.TemporaryDirectory(prefix="numprune-") as name, _in_eval_mode(model):
        scratch = Path(name)
        recipe = parse(_content(model, tokenizer, texts, settings, scratch), "settings")
        dense = LiveDense(model, tokenizer, single_query_heads=recipe.query_heads == "single")
        kind = kind_of(recipe, dense, (scratch, Path.cwd()))
        require_budget(recipe, dense.family, model, kind.mean_length)
        with open_folder(scratch / "run") as folder:
            context = Context(recipe, folder, observer)
            plans = planned(context, kind, dense)
            with (
                matmul_precision(recipe.matmul_precision, dense.device),
                watched(),
                full_device_named("prune"),
            ):
                compressed = compensated(context, dense, plans.compensation)
            if recipe.recover is not None:
                compressed = _recovered(context, kind, dense, compressed)
    pruned = become_reloadable(compressed, dense.family)
    take_ownership(pruned, model)
    return Live(pruned.train(model.training), plans.plan, recipe)


def _recovered(context: Context, kind: ModelKind, dense: Dense, pruned: Any) -> Any:
    """The pruned model after its recovery, in its dtype."""
    settings, texts = context.recipe.recover, kind.recovery
    assert settings is not None
    assert texts is not None
    student = copy.deepcopy(pruned).float()  # it may share tensors with the dense model
    recovery = Recovery(student, dense.placed, dense.family, texts, settings)
    context.observer.expect(recovery.steps)
    recovery.run(context.folder.path, context.observer.advance)
    return student.to(dense.dtype)


def _require_usable(model: PreTrainedModel) -> None:
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1:
        raise InputError(
            f"the model is on several devices: {', '.join(devices)}",
            hint="move it to one of them, for example with `model.cuda()` or `model.cpu()`",
        )


@contextmanager
def _in_eval_mode(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _content(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Texts,
    settings: Mapping[str, Any],
    scratch: Path,
) -> dict[str, Any]:
    """The content of a recipe, with placeholders for keys that only a run on disk needs."""
    calibration = _calibration(model, tokenizer, texts, scratch)
    content: dict[str, Any] = {
        "version": 1,
        "model": "in-memory",
        "targets": {},
        "calibration": calibration,
    }
    for key, value in settings.items():
        assign(content, key, value)
    evaluation = dict(content["calibration"])
    if "mix" in evaluation:
        first = {key: value for key, value in evaluation["mix"][0].items() if key != "share"}
        evaluation["mix"] = [first]
    if "texts" in evaluation or "mix" in evaluation:
        evaluation |= {"sequences": 1, "windows": "packed"}
    content["evaluation"] = evaluation
    return content


def _calibration(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Texts,
    scratch: Path,
) -> dict[str, Any]:
    if isinstance(texts, str | Path):
        path = Path(texts)
        labelled = family_of(str(model.config.model_type), None).kind == "encoder"
        return (
            {"files": [str(path.absolute())]}
            if labelled
            else _windows(model, tokenizer, [str(path.absolute())], path)
        )
    if not texts:
        raise InputError("there is no text to calibrate on", hint="give texts or a file of text")
    if all(isinstance(text, Mapping) for text in texts):
        return {
            "files": [_written(scratch, [dict(row) for row in texts if isinstance(row, Mapping)])]
        }
    if not all(isinstance(text, str) for text in texts):
        raise InputError(
            "`texts` mixes texts and examples",
            hint="give strings for a language model, mappings for a model with a task head",
        )
    written = _written(scratch, [{"text": text} for text in texts])
    return _windows(model, tokenizer, [written], DOCUMENT_SEPARATOR.join(map(str, texts)))


def _written(scratch: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path = scratch / "calibration.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _windows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    files: list[str],
    text: str | Path,
) -> dict[str, Any]:
    """Corpus settings with as many full windows as the text has, at most `WINDOWS`."""
    length = min(WINDOW, int(getattr(model.config, "max_position_embeddings", WINDOW)))
    windows = WINDOWS
    if tokenizer is not None and isinstance(text, str):
        tokens = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        windows = max(1, min(WINDOWS, tokens // length))
    return {"texts": files, "sequences": windows, "tokens_per_sequence": length}
