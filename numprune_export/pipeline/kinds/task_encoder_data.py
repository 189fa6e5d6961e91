"""The labelled examples that an encoder is calibrated and measured on, and the rows for its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.data.tasks.task import Task
from numprune_export.export.artifact import Tokens
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.kinds.encoder_gradients import reads_labels
from numprune_export.pipeline.kinds.kind import Proof
from numprune_export.pipeline.models import Dense
from numprune_export.recipe import Recipe
from numprune_export.recipe.model_fit import require_fit

PROOF_ROWS = 2
PARITY_ROWS = 3


@dataclass(frozen=True)
class EncoderTexts:
    """What a model is asked, and both sets of examples."""

    task: Task
    calibration: Encoded
    evaluation: Encoded

    @classmethod
    def read(
        cls, recipe: Recipe, family: BidirectionalEncoder, dense: Dense, search: Sequence[Path]
    ) -> EncoderTexts:
        """Draw and tokenise.

        Raises:
            RecipeError: the recipe is for another kind of model, or has a setting that this model's head has not.
            InputError: no tokenizer, or unusable examples.
        """
        require_fit(recipe, family)
        calibration, evaluation = recipe.calibration, recipe.evaluation
        assert isinstance(calibration, LabelledData)
        assert isinstance(evaluation, LabelledData)
        tokenizer, skeleton = dense.require_tokenizer(), dense.skeleton
        task = task_of(family.head_of(skeleton).task, skeleton.config)
        reading = Reading.of(tokenizer, skeleton.config, family.encoder(skeleton).max_positions)
        labelled = reads_labels(recipe.score)
        drawn = task.load(calibration, reading, search, labelled=labelled)
        found = cls(task, drawn, task.load(evaluation, reading, search))
        task.require_varied(found.evaluation)
        return found


def proof(windows: Windows) -> Proof:
    """Rows of different lengths, where there are any."""
    rows = np.argsort(windows.lengths, kind="stable")[:: -(len(windows.lengths) - 1) or 1]
    rows = rows[:PROOF_ROWS]
    width = int(windows.lengths[rows].max())
    real = np.arange(width) < windows.lengths[rows][:, None]
    types = windows.types
    return Proof(
        torch.from_numpy(windows.tokens[rows, :width]),
        torch.from_numpy(real),
        None if types is None else torch.from_numpy(types[rows, :width]),
    )


def parity_rows(windows: Windows) -> tuple[Tokens, Tokens | None]:
    """Tokens and types of the longest examples, cut to the shortest of them: no padding."""
    order = np.argsort(-windows.lengths, kind="stable")
    rows = order[np.arange(PARITY_ROWS) % len(order)]
    width = int(windows.lengths[rows].min())
    types = None if windows.types is None else windows.types[rows, :width]
    return windows.tokens[rows, :width], types
