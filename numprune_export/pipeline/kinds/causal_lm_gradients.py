"""Gradients that scores of language models need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.calibration.gradients.output_fisher import counted, next_token_fisher
from numprune_export.core.progress import Observer
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher_obs import WINDOWS, reads_output_fisher


@dataclass(frozen=True)
class CausalLmGradients:
    """See Gradients: of the next-token cross-entropy."""

    score: Score
    family: RotaryDecoder

    @property
    def key(self) -> Any:
        """See Gradients.key."""
        if not reads_output_fisher(self.score):
            return None
        return "output fisher", self.score.sequences or WINDOWS

    def of_units(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Mapping[str, Tensor]:
        """See Gradients.of_units: not used by scores of language models."""
        return {}

    def of_outputs(
        self, model: PreTrainedModel, texts: CalibrationTexts, observer: Observer
    ) -> Iterable[Mapping[str, Tensor]]:
        """See Gradients.of_outputs.

        Raises:
            NumericalError: a loss or a gradient is not finite.
        """
        if not reads_output_fisher(self.score):
            return ()
        windows = texts.gradients.first(self.score.sequences or WINDOWS)
        fisher = partial(next_token_fisher, batch=texts.batch)
        return counted(fisher, model, self.family, windows, observer)
