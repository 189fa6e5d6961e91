"""What a recipe's pruning consists of, from the model's configuration alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from numprune_export.core.disk_space import temporary_folder
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import Source, resolve
from numprune_export.models.device import Wanted
from numprune_export.models.family import Family
from numprune_export.pipeline.requirements import require_possible
from numprune_export.recipe import Recipe
from numprune_export.workflows.estimate.clock import WALL, Clock
from numprune_export.workflows.estimate.shapes import shapes_of
from numprune_export.workflows.estimate.stages import Job
from numprune_export.workflows.estimate.texts import texts_of


@dataclass(frozen=True)
class Prospect:
    """A recipe's job, from the model's configuration alone."""

    job: Job
    wanted: Wanted
    built: float
    """Seconds that building the model took."""


def prospect_of(
    recipe: Recipe, search: Sequence[Path], clock: Clock = WALL, config: Path | None = None
) -> Prospect:
    """What a recipe's pruning consists of. No weights are read or fetched.

    Args:
        recipe: The recipe.
        search: Folders searched for relative paths, in order.
        clock: Wall or CPU time.
        config: The model's config.json, or its folder, in the place of the recipe's model.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`, `checkpoint.load.skeleton`,
            `pipeline.requirements.require_possible` and `texts_of`.
    """
    wanted = recipe.model
    with _source(recipe, search, config) as source:
        family: Family = source.family
        if recipe.query_heads == "single":
            family = family.with_single_query_heads()
        start = clock.now()
        model = skeleton(source)
        built = clock.now() - start
    # Weights are not fetched, so `auto` is what the configuration says.
    declared = getattr(model.config, "dtype", None) or torch.float32
    itemsize = (declared if wanted.dtype == "auto" else getattr(torch, wanted.dtype)).itemsize
    require_possible(recipe, family, model)
    texts = texts_of(recipe.calibration, search)
    can_stream = recipe.stream_weights is not False and family.kind == "decoder"
    memory = Wanted.of(model, family, itemsize, can_stream=can_stream)
    job = Job(recipe, shapes_of(model, family, itemsize), texts, source.kind == "gguf")
    return Prospect(job, memory, built)


@contextmanager
def _source(recipe: Recipe, search: Sequence[Path], config: Path | None) -> Iterator[Source]:
    """The model, within a `with` statement."""
    if config is None or not config.is_file():
        wanted = recipe.model
        reference, revision = (
            (wanted.source, wanted.revision) if config is None else (str(config), None)
        )
        yield resolve(reference, revision=revision, search=search, weights=False)
        return
    with temporary_folder() as folder:
        shutil.copy(config, folder / "config.json")
        yield resolve(str(folder), revision=None, search=(), weights=False)
