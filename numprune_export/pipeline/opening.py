"""What a run opens before it works: the dense model, and the texts of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import open_folder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import chosen_targets
from numprune_export.pipeline.kinds.causal_lm import CausalLm
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.kinds.task_encoder import TaskEncoder
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.requirements import require_budget, require_possible
from numprune_export.pipeline.rounds import rounds_of
from numprune_export.pipeline.stages.generate_text import calibration_texts
from numprune_export.recipe import Recipe


def dense_of(recipe: Recipe, search: Sequence[Path]) -> Dense:
    """The model that a recipe names; its weights are not read.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`.
    """
    source = resolve(recipe.model.source, revision=recipe.model.revision, search=search)
    return Dense(source, recipe.model.dtype, single_query_heads=recipe.query_heads == "single")


def kind_of(recipe: Recipe, dense: Dense, search: Sequence[Path]) -> ModelKind:
    """Reads the texts before any work, so that one which is too short is said at once."""
    family = dense.family
    if isinstance(family, BidirectionalEncoder):
        return TaskEncoder(recipe, family, dense, search)
    assert isinstance(family, RotaryDecoder), family
    return CausalLm(recipe, family, dense, search)


def open_inputs(recipe: Recipe, search: Sequence[Path]) -> tuple[Dense, ModelKind]:
    """The dense model and its texts, once nothing that can be known without weights stands against a
    run: first what configuration and shapes decide, then what the texts do.

    Raises:
        NumpruneError: why a run would fail; see `errors`.
    """
    dense = dense_of(recipe, search)
    require_possible(recipe, dense.family, dense.skeleton)
    kind = kind_of(recipe, dense, search)
    require_budget(recipe, dense.family, dense.skeleton, kind.mean_length)
    return dense, kind


def check(recipe: Recipe, *, search: Sequence[Path]) -> None:
    """Whether a run of this recipe would begin its work.

    Raises:
        NumpruneError: why not; see `errors`.
    """
    chosen_targets(recipe)
    open_inputs(recipe, search)


def learn(
    recipe: Recipe, *, folder: Path, search: Sequence[Path], observer: Observer, shared: Path
) -> None:
    """Calibrate and score the dense model into the shared folder, as the first part of a run.

    Args:
        recipe: Of the run.
        folder: Its run folder, where the stages are linked.
        search: As for a run.
        observer: Told of progress.
        shared: Where other runs find the stages.

    Raises:
        NumpruneError: one of its kinds; see `errors`.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    dense, kind = open_inputs(recipe, search)
    with open_folder(folder) as run_folder:
        context = Context(recipe, run_folder, observer, SharedFolder(shared))
        texts, _ = calibration_texts(context, kind.texts, dense)
        _ = next(rounds_of(context, kind, texts, dense)).scored
