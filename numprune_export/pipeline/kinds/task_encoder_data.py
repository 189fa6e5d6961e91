"""Labelled calibration and evaluation examples of an encoder, and the batches of its checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.calibration.gradients.block_backward import Objective
from numprune_export.calibration.gradients.losses import OwnPredictions
from numprune_export.calibration.gradients.mask_gradients import LabelledLoss, unit_gradients
from numprune_export.calibration.gradients.output_fisher import counted, output_fisher
from numprune_export.core.progress import Observer
from numprune_export.core.stage import key_of
from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import Encoded, Labels
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading
from numprune_export.data.tasks.choice import task_of
from numprune_export.data.tasks.task import Task
from numprune_export.export.runner import Tokens
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.kinds.kind import Proof
from numprune_export.pipeline.models import Dense
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.recipe import Recipe
from numprune_export.recipe.model_fit import require_fit

PROOF_ROWS = 2
PARITY_ROWS = 3


@dataclass(frozen=True)
class EncoderExamples:
    """The task of a model's head, and its examples for calibration and evaluation."""

    task: Task
    calibration: Encoded
    evaluation: Encoded

    @classmethod
    def read(
        cls, recipe: Recipe, family: BidirectionalEncoder, dense: Dense, search: Sequence[Path]
    ) -> EncoderExamples:
        """Draw and tokenise the examples.

        Raises:
            RecipeError: the recipe is for another kind of model, or has a setting that the model's
                head does not support.
            InputError: there is no tokenizer, or examples are invalid.
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
        held_out = task.load(evaluation, reading, search)
        task.require_varied(held_out)
        return cls(task, drawn, held_out)


def proof(windows: Windows) -> Proof:
    """The batch of the reload proof: rows of different lengths, if there are any."""
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
    """Tokens and types of the longest examples, cut to the shortest of them, without padding."""
    order = np.argsort(-windows.lengths, kind="stable")
    rows = order[np.arange(PARITY_ROWS) % len(order)]
    width = int(windows.lengths[rows].min())
    types = None if windows.types is None else windows.types[rows, :width]
    return windows.tokens[rows, :width], types


def reads_labels(score: Score) -> bool:
    """Whether gradients are those of the loss on the gold labels."""
    own = isinstance(score, Fisher) and score.labels == "gold"
    return own or reads_output_fisher(score)


@dataclass(frozen=True)
class EncoderGradients:
    """See Gradients: of the task's loss on the calibration examples."""

    recipe: Recipe
    family: BidirectionalEncoder
    task: Task
    labels: Labels | None
    """One label per calibration window; None unless `reads_labels`."""

    @property
    def key(self) -> Any:
        """See Gradients.key."""
        labels, score = self.labels, self.recipe.score
        wanted: Any = None
        if isinstance(score, Fisher):
            wanted = score.model_dump()
        elif reads_output_fisher(score):
            wanted = "output fisher", score.sequences
        if wanted is None:
            return None
        return wanted, None if labels is None else key_of(labels.tolist())

    def of_units(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Mapping[str, Tensor]:
        """See Gradients.of_units.

        Raises:
            InputError: there are fewer examples than one batch.
            NumericalError: a loss or a gradient is not finite.
        """
        score, windows = self.recipe.score, texts.gradients
        if not isinstance(score, Fisher):
            return {}
        observer.expect(len(windows.tokens))
        objective = self._objective(score, windows)
        return unit_gradients(
            model, self.family, windows, objective,
            batch=texts.batch, per=score.per, tick=observer.advance,
        )  # fmt: skip

    def of_outputs(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Iterable[Mapping[str, Tensor]]:
        """See Gradients.of_outputs: of the loss on the gold labels.

        Raises:
            NumericalError: a loss or a gradient is not finite.
        """
        score, labels = self.recipe.score, self.labels
        if not reads_output_fisher(score):
            return ()
        assert labels is not None
        windows = texts.gradients.first(score.sequences)
        gold = torch.from_numpy(labels[: len(windows.tokens)])
        objective = Objective(self.task.loss, gold)
        fisher = partial(output_fisher, objective=objective, batch=texts.batch)
        return counted(fisher, model, self.family, windows, observer)

    def _objective(self, score: Fisher, windows: Windows) -> LabelledLoss:
        """The loss on the gold labels, or on labels drawn from the model's own predictions."""
        if reads_labels(score):
            assert self.labels is not None
            return LabelledLoss(self.task.loss, torch.from_numpy(self.labels))
        real = torch.from_numpy(np.arange(windows.tokens.shape[1]) < windows.lengths[:, None])
        generator = torch.Generator().manual_seed(self.recipe.seed)
        return LabelledLoss(OwnPredictions(self.task.kind, generator, score.temperature), real)
