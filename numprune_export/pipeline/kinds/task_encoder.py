"""Encoders with a task head: measured by their task, timed by batch and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import key_of
from numprune_export.data.tasks.evaluate import Run
from numprune_export.data.tasks.task import headline
from numprune_export.export.artifact import Artifact, Exporter, Logits
from numprune_export.export.encoder import EncoderRunner
from numprune_export.measure.cost.encoder import encoder_cost
from numprune_export.measure.latency.interleave import Keep
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.measure.parity import encoder as encoder_parity
from numprune_export.measure.quality.divergence import DenseAnswers
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.measure.reference.precision import own_error
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.kinds import task_encoder_data
from numprune_export.pipeline.kinds.encoder_gradients import EncoderGradients
from numprune_export.pipeline.kinds.encoder_target import encoder_target
from numprune_export.pipeline.kinds.kind import Ideal, Opener, Proof
from numprune_export.pipeline.kinds.task_encoder_data import EncoderTexts
from numprune_export.pipeline.kinds.task_encoder_latency import measure_latency
from numprune_export.pipeline.models import VARIANTS, Dense, Models, Variant
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.paired_change import Scores
from numprune_export.pipeline.stages.sizes import dense_and_pruned
from numprune_export.recipe import Recipe

DIVERGENCE_EXAMPLES = 512
"""Calibration examples that a plan is tried out on: a converged model is sure of nearly all of them, and
of 128 the divergence chose a worse plan than of 512."""


class EncoderSubject:
    """See Subject."""

    def __init__(
        self, recipe: Recipe, family: BidirectionalEncoder, dense: Dense, search: Sequence[Path]
    ) -> None:
        """Read the labelled examples.

        Raises:
            RecipeError: the recipe gives plain text, or a setting that this model's head has not.
            InputError: no tokenizer, or unusable examples.
        """
        self._recipe, self._family = recipe, family
        self._texts = texts = EncoderTexts.read(recipe, family, dense, search)
        self._headline = headline(texts.task, texts.evaluation.data)
        self._gradients = EncoderGradients(recipe, family, texts.task, texts.calibration)
        self.calibration = texts.calibration.windows
        self.calibration_batch = texts.calibration.data.batch

    @property
    def gradients_key(self) -> Any:
        """See Subject.gradients_key."""
        return self._gradients.key

    @property
    def evaluation_key(self) -> Any:
        """See Subject.evaluation_key."""
        evaluation = self._texts.evaluation
        assert evaluation.labels is not None
        return (
            key_of(evaluation.windows.tokens.tolist(), evaluation.labels.tolist()),
            evaluation.data.model_dump(mode="json"),
            self._recipe.benchmark.seed,
        )

    @property
    def benchmark_key(self) -> Any:
        """See Subject.benchmark_key."""
        unused = {"prefill", "past", "decode_steps", "batch"}
        return self.evaluation_key[0], self._recipe.benchmark.model_dump(exclude=unused)

    @property
    def tasks_key(self) -> Any:
        """See Subject.tasks_key."""
        return None

    @property
    def mean_length(self) -> float:
        """See Subject.mean_length."""
        return float(self.calibration.lengths.mean())

    def gradients(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.gradients.

        Raises:
            InputError: fewer examples than one batch.
            NumericalError: a loss or a gradient is not finite.
        """
        return self._gradients.of_units(model, observer)

    def output_fisher(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.output_fisher: of the task's loss on the gold labels.

        Raises:
            NumericalError: a loss or a gradient is not finite.
        """
        return self._gradients.of_outputs(model, observer)

    def answers(self, dense: PreTrainedModel) -> DenseAnswers:
        """See Subject.answers: the task's."""
        windows = self.calibration.first(DIVERGENCE_EXAMPLES)
        return DenseAnswers.of(dense, self._family, windows, batch=self.calibration_batch)

    def proof(self) -> Proof:
        """See Subject.proof: rows of different lengths, where there are any."""
        return task_encoder_data.proof(self.calibration)

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """See Subject.export."""
        target = encoder_target(exporter)
        return target.export_encoder(self._family.encoder(model), folder, settings)

    @property
    def evaluated(self) -> int:
        """See Subject.evaluated."""
        return len(self._texts.evaluation)

    @property
    def compared(self) -> int:
        """See Subject.compared: PyTorch in fp64, which counts twice, in the artifact's dtype, and the
        artifact."""
        return 4 * task_encoder_data.PARITY_ROWS

    def work(self, models: Models) -> Metrics:
        """See Subject.work: of a text of mean length, none of it padding."""
        length = max(1, round(float(self._texts.evaluation.windows.lengths.mean())))
        dense, pruned = (
            encoder_cost(
                self._family.encoder(models.get(variant)), batch=1, length=length, itemsize=1
            ).macs
            for variant in VARIANTS
        )
        return dense_and_pruned("size.macs", "MACs", dense, pruned, conditions={"length": length})

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """See Subject.scores: of the task."""
        run = Run(conditions=under, progress=observer.advance)
        found = self._texts.task.evaluate(runner, self._texts.evaluation, run)
        seed = self._recipe.benchmark.seed
        metrics = found.metrics(seed=seed)
        ordered = dict(sorted(metrics.items(), key=lambda one: one[0] != self._headline))
        return Scores(ordered, found.resamples(seed=seed))

    def reference(
        self, model: PreTrainedModel, threads: int | None = None
    ) -> AbstractContextManager[Any]:
        """See Subject.reference."""
        return self._torch(model, threads)

    def opened(self, exporter: Exporter, artifact: Artifact) -> AbstractContextManager[Any]:
        """See Subject.opened."""
        return encoder_target(exporter).open_encoder(artifact, threads=torch.get_num_threads())

    def own_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """See Subject.own_error."""
        rows, types = task_encoder_data.parity_rows(self._texts.evaluation.windows)

        def answers(placed: PreTrainedModel) -> Logits:
            with self._torch(placed) as runner:
                return runner.forward(rows, None, types)

        return own_error(model, getattr(torch, dtype), answers)

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """See Subject.openers."""
        target = encoder_target(exported.target.exporter)

        def opened(artifact: Artifact, *, capacity: int) -> EncoderRunner:
            return target.open_encoder(artifact, threads=torch.get_num_threads())

        return {exported.target.name: opened}

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> encoder_parity.EncoderParity:
        """See Subject.compare."""
        rows, types = task_encoder_data.parity_rows(self._texts.evaluation.windows)
        with self._torch(exact) as reference, opener(artifact, capacity=rows.shape[1]) as candidate:
            return encoder_parity.compare(
                reference, candidate, rows, self._texts.task.kind, types=types
            )

    def latency(
        self,
        models: Models,
        exported: Sequence[Exported],
        observer: Observer,
        keep: Keep,
        ideal: Ideal | None = None,
    ) -> Metrics:
        """See Subject.latency."""
        tokens = self._texts.evaluation.windows.tokens
        return measure_latency(
            self._recipe, self._family, models, exported, tokens, observer, keep, ideal
        )

    def memory(self, exported: Exported) -> Metrics:
        """See Subject.memory: one forward pass of the largest batch and length that are timed."""
        settings = self._recipe.benchmark
        return measure_memory(
            exported.target.name,
            {variant: artifact.folder for variant, artifact in exported.artifacts.items()},
            threads=settings.threads,
            batch=max(settings.batches),
            prompt_tokens=max(settings.lengths),
            decode_steps=0,
        )

    def _torch(self, model: PreTrainedModel, threads: int | None = None) -> TorchEncoderRunner:
        return TorchEncoderRunner(model, self._family, threads=threads)
