"""The validate stage: sizes, quality from the dense model to each artifact, and their parity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numprune_export.pipeline import agreement
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import keys, reference_device, write_metrics
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.sizes import size_metrics
from numprune_export.pipeline.subject import Subject
from numprune_export.run_folder import Stage


def validate(
    context: Context, subject: Subject, models: Models, exported: Sequence[Exported]
) -> Stage:
    """Everything about quality and exactness that this machine can measure.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    limits, device = context.recipe.parity, reference_device(exported)

    def make(folder: Path) -> None:
        metrics = size_metrics(models, exported)
        metrics |= subject.quality(models, exported, device, context.observer)
        for one in exported:
            metrics |= agreement.agree(limits, subject, models, one, device)
        write_metrics(folder, metrics)

    inputs = [*keys(models, exported), subject.evaluation_key, limits.model_dump(), device]
    return context.stage("validate", "validate", inputs, make)
