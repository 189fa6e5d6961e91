"""Opening the inputs of a run: the dense model, and the texts of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from numprune_export.core.errors import RecipeError
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import open_folder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.additional_text import require_room_for_text
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import chosen_targets
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.kinds.task_encoder import TaskEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.requirements import require_budget, require_memory, require_possible
from numprune_export.pipeline.rounds import rounds_of
from numprune_export.pipeline.stages.dequantise import dequantised
from numprune_export.pipeline.stages.generate_text import calibration_texts
from numprune_export.recipe import Recipe


def dense_of(recipe: Recipe, search: Sequence[Path]) -> Dense:
    """The dense model of a recipe; its weights are not read.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`.
    """
    source = resolve(recipe.model.source, revision=recipe.model.revision, search=search)
    return Dense(
        source,
        recipe.model.dtype,
        single_query_heads=recipe.query_heads == "single",
        device=recipe.device,
        stream_weights=None if recipe.stream_weights == "auto" else recipe.stream_weights,
    )


def kind_of(recipe: Recipe, dense: Dense, search: Sequence[Path]) -> ModelKind:
    """The kind of a model; reads its texts first, so that a text that is too short fails early."""
    family = dense.family
    if isinstance(family, BidirectionalEncoder):
        return TaskEncoder(recipe, family, dense, search)
    assert isinstance(family, RotaryDecoder), family
    return CausalLm(recipe, family, dense, search)


def open_inputs(recipe: Recipe, search: Sequence[Path]) -> tuple[Dense, ModelKind]:
    """Open the dense model and its texts, after all checks that need no weights.

    Checks of configuration and shapes precede the texts.

    Raises:
        NumpruneError: the run would fail; see `errors`.
    """
    dense = dense_of(recipe, search)
    if dense.placement.streamed and recipe.tasks is not None:  # a missing device fails first
        raise RecipeError(
            "`tasks` generate text, for which a streamed model is too slow",
            hint="omit `tasks`, or set `stream_weights: false`",
        )
    if dense.placement.streamed and recipe.recover is not None:
        raise RecipeError(
            "`recover` trains all blocks at once, which a streamed model has not in memory",
            hint="omit `recover`, or set `stream_weights: false` on a device with room for it",
        )
    require_possible(recipe, dense.family, dense.skeleton)
    require_room_for_text(recipe, dense)
    kind = kind_of(recipe, dense, search)
    require_budget(recipe, dense.family, dense.skeleton, kind.mean_length)
    require_memory(recipe, dense, kind.texts)
    return dense, kind


def check(recipe: Recipe, *, search: Sequence[Path]) -> None:
    """Run all checks of a run that need no weights.

    Raises:
        NumpruneError: the run would fail; see `errors`.
    """
    chosen_targets(recipe)
    open_inputs(recipe, search)


def learn(
    recipe: Recipe, *, folder: Path, search: Sequence[Path], observer: Observer, shared: Path
) -> None:
    """Calibrate and score the dense model in the shared folder: the first stages of a run.

    Args:
        recipe: Of the run.
        folder: The run folder, which the stages are linked into.
        search: As for a run.
        observer: Notified of progress.
        shared: The folder that runs share.

    Raises:
        NumpruneError: a subclass; see `errors`.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    dense, kind = open_inputs(recipe, search)
    with open_folder(folder) as run_folder:
        context = Context(recipe, run_folder, observer, SharedFolder(shared))
        dequantised(context, dense)
        texts, _ = calibration_texts(context, kind.texts, dense)
        _ = next(rounds_of(context, kind, texts, dense)).scored
