"""What the score of an encoder reads beside its inputs: gradients of the task's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.calibration.gradients.mask_gradients import Loss, unit_gradients
from numprune_export.calibration.gradients.output_fisher import output_fisher
from numprune_export.calibration.gradients.own_predictions import OwnPredictions
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import key_of
from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import Encoded
from numprune_export.data.tasks.task import Task
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.stages.output_gradients import by_site
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.recipe import Recipe


def reads_labels(score: Score) -> bool:
    """Whether gradients are of the loss on the labels in the data."""
    own = isinstance(score, Fisher) and score.labels == "gold"
    return own or reads_output_fisher(score)


@dataclass(frozen=True)
class EncoderGradients:
    """Of the dense model, on the calibration examples."""

    recipe: Recipe
    family: BidirectionalEncoder
    task: Task
    examples: Encoded
    """Labelled where `reads_labels`."""

    @property
    def key(self) -> Any:
        """See Subject.gradients_key."""
        labels, score = self.examples.labels, self.recipe.score
        wanted: Any = None
        if isinstance(score, Fisher):
            # Own labels are drawn.
            wanted = score.model_dump(), self.recipe.seed if score.labels == "own" else None
        elif reads_output_fisher(score):
            wanted = "output fisher", score.sequences
        if wanted is None:
            return None
        return wanted, None if labels is None else key_of(labels.tolist())

    def of_units(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.gradients."""
        score, windows = self.recipe.score, self.examples.windows
        if not isinstance(score, Fisher):
            return {}
        observer.expect(len(windows.tokens))
        labels, loss = self._objective(score, windows)
        return unit_gradients(
            model, self.family, windows, labels, loss,
            batch=self.examples.data.batch, per=score.per, tick=observer.advance,
        )  # fmt: skip

    def of_outputs(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.output_fisher: of the task's loss on the gold labels."""
        score, labels = self.recipe.score, self.examples.labels
        if not reads_output_fisher(score):
            return {}
        assert labels is not None
        windows = self.examples.windows.first(score.sequences)
        gold = torch.from_numpy(labels[: len(windows.tokens)])
        learn = partial(
            output_fisher, loss=self.task.loss, labels=gold, batch=self.examples.data.batch
        )
        return by_site(learn, model, self.family, windows, observer)

    def _objective(self, score: Fisher, windows: Windows) -> tuple[Tensor, Loss]:
        """Labels by rows, and the loss that takes them: gold ones, or the model's own answers."""
        if reads_labels(score):
            assert self.examples.labels is not None
            return torch.from_numpy(self.examples.labels), self.task.loss
        real = torch.from_numpy(np.arange(windows.tokens.shape[1]) < windows.lengths[:, None])
        generator = torch.Generator().manual_seed(self.recipe.seed)
        return real, OwnPredictions(self.task.kind, generator, score.temperature)
