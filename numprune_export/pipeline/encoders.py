"""Encoders with a task head: measured by their task, timed by batch and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor
from transformers import PreTrainedModel

from numprune_export.artifact import Artifact, Exporter, Logits, Tokens
from numprune_export.benchmark.interleave import Keep
from numprune_export.benchmark.memory import measure_memory
from numprune_export.bidirectional import BidirectionalEncoder
from numprune_export.encoder import EncoderRunner
from numprune_export.errors import InputError, RecipeError
from numprune_export.fisher.gradients import Loss, unit_gradients
from numprune_export.fisher.output_fisher import output_fisher
from numprune_export.fisher.own_predictions import OwnPredictions
from numprune_export.metric import Metric, Metrics
from numprune_export.pipeline.encoder_latency import measure_latency
from numprune_export.pipeline.encoder_target import encoder_target
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.models import Dense, Models, Variant
from numprune_export.pipeline.subject import Ideal, Opener, Proof
from numprune_export.progress import Observer
from numprune_export.recipe import Recipe
from numprune_export.run_folder import key_of
from numprune_export.score.fisher import Fisher
from numprune_export.score.fisher_obs import FisherObs
from numprune_export.tasks import task_of
from numprune_export.tasks.evaluate import Run
from numprune_export.tasks.labelled import LabelledData
from numprune_export.tasks.task import headline
from numprune_export.tasks.tokenize import Reading
from numprune_export.validate import encoder_parity
from numprune_export.validate.encoder_reference import TorchEncoderRunner
from numprune_export.validate.model_divergence import model_divergence
from numprune_export.validate.precision import own_error

PROOF_ROWS = 2
PARITY_ROWS = 3
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
        calibration, evaluation = recipe.calibration, recipe.evaluation
        if not isinstance(calibration, LabelledData) or not isinstance(evaluation, LabelledData):
            raise RecipeError(
                f"`{family.model_type}` has a task head, which plain text cannot measure",
                hint="give labelled examples under `calibration.files` and `evaluation.files`",
            )
        if recipe.self_calibration:
            raise RecipeError(
                f"`self_calibration` is for language models, and `{family.model_type}` is none",
                hint="leave it out",
            )
        if recipe.tasks is not None:
            raise RecipeError(
                "`tasks` are asked of language models, this model has a task head of its own",
                hint="remove `tasks`: `evaluation` measures it",
            )
        tokenizer = dense.tokenizer
        if tokenizer is None:
            raise InputError(
                f"`{dense.source.reference}` has no tokenizer",
                hint="put its tokenizer files beside it",
            )
        skeleton = dense.skeleton
        self._head = family.head_of(skeleton)
        self._task = task_of(self._head.task, skeleton.config)
        positions = family.encoder(skeleton).max_positions
        reading = Reading.of(tokenizer, skeleton.config, positions)
        score = recipe.score
        self._needs_gold = isinstance(score, Fisher) and score.labels == "gold"
        self._needs_gold |= isinstance(score, FisherObs) and score.metric == "fisher"
        self._calibration = self._task.load(calibration, reading, search, labelled=self._needs_gold)
        self._evaluation = self._task.load(evaluation, reading, search)
        self._task.require_varied(self._evaluation)
        self._headline = headline(self._task, evaluation)
        self.calibration = self._calibration.windows
        self.calibration_batch = calibration.batch

    @property
    def gradients_key(self) -> Any:
        """See Subject.gradients_key."""
        labels, score = self._calibration.labels, self._recipe.score
        wanted: Any = None
        if isinstance(score, Fisher):
            wanted = score.model_dump()
        elif isinstance(score, FisherObs) and score.metric == "fisher":
            wanted = "output fisher", score.sequences
        if wanted is None:
            return None
        return wanted, None if labels is None else key_of(labels.tolist())

    @property
    def evaluation_key(self) -> Any:
        """See Subject.evaluation_key."""
        labels, windows = self._evaluation.labels, self._evaluation.windows
        assert labels is not None
        return (
            key_of(windows.tokens.tolist(), labels.tolist()),
            self._evaluation.data.model_dump(mode="json"),
        )

    @property
    def tasks_key(self) -> Any:
        """See Subject.tasks_key."""
        return None

    @property
    def mean_length(self) -> float:
        """See Subject.mean_length."""
        return float(self._evaluation.windows.lengths.mean())

    def gradients(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.gradients.

        Raises:
            InputError: fewer examples than one batch.
            NumericalError: a loss or a gradient is not finite.
        """
        score, windows = self._recipe.score, self.calibration
        if not isinstance(score, Fisher):
            return {}
        observer.expect(len(windows.tokens))
        real = torch.from_numpy(np.arange(windows.tokens.shape[1]) < windows.lengths[:, None])
        labels: Tensor = real
        loss: Loss = self._own_loss(score)
        if self._needs_gold:
            assert self._calibration.labels is not None
            labels, loss = torch.from_numpy(self._calibration.labels), self._task.loss
        return unit_gradients(
            model, self._family, windows, labels, loss,
            batch=self.calibration_batch, per=score.per, tick=observer.advance,
        )  # fmt: skip

    def output_fisher(self, model: PreTrainedModel, observer: Observer) -> Mapping[str, Tensor]:
        """See Subject.output_fisher: of the task's loss on the gold labels.

        Raises:
            NumericalError: a loss or a gradient is not finite.
        """
        score, labels = self._recipe.score, self._calibration.labels
        if not isinstance(score, FisherObs) or score.metric != "fisher":
            return {}
        assert labels is not None
        every = len(self.calibration.tokens)
        few = np.arange(min(score.sequences or every, every))
        windows = self.calibration.rows(few)
        observer.expect(2 * len(self._family.block_list(model)) * len(windows.tokens))
        found = output_fisher(
            model, self._family, windows, self._task.loss,
            torch.from_numpy(labels[few]),
            batch=self.calibration_batch, tick=observer.advance,
        )  # fmt: skip
        return {name: one for block in found for name, one in block.items()}

    def divergence(self, dense: PreTrainedModel, pruned: PreTrainedModel) -> Metric:
        """See Subject.divergence: of the task's answers."""
        examples = min(DIVERGENCE_EXAMPLES, len(self.calibration.tokens))
        windows = self.calibration.rows(np.arange(examples))
        return model_divergence(dense, pruned, self._family, windows, batch=self.calibration_batch)

    def proof(self) -> Proof:
        """See Subject.proof: rows of different lengths, where there are any."""
        windows = self.calibration
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

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """See Subject.export."""
        target = encoder_target(exporter)
        return target.export_encoder(self._family.encoder(model), folder, settings)

    @property
    def evaluated(self) -> int:
        """See Subject.evaluated."""
        return len(self._evaluation)

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics:
        """See Subject.scores: of the task."""
        run = Run(conditions=under, progress=observer.advance)
        found = self._task.evaluate(runner, self._evaluation, run)
        metrics = found.metrics(seed=self._recipe.benchmark.seed)
        return dict(sorted(metrics.items(), key=lambda one: one[0] != self._headline))

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
        rows, types = self._parity_rows()

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
        rows, types = self._parity_rows()
        with self._torch(exact) as reference, opener(artifact, capacity=rows.shape[1]) as candidate:
            return encoder_parity.compare(reference, candidate, rows, self._head.task, types=types)

    def latency(
        self,
        models: Models,
        exported: Sequence[Exported],
        observer: Observer,
        keep: Keep,
        ideal: Ideal | None = None,
    ) -> Metrics:
        """See Subject.latency."""
        return measure_latency(
            self._recipe, self._family, models, exported, self._evaluation.windows.tokens, observer,
            keep, ideal,
        )  # fmt: skip

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

    def _own_loss(self, score: Fisher) -> OwnPredictions:
        generator = torch.Generator().manual_seed(self._recipe.seed)
        return OwnPredictions(self._head.task, generator, score.temperature)

    def _parity_rows(self) -> tuple[Tokens, Tokens | None]:
        """The longest examples, cut to the shortest of them: no padding."""
        windows = self._evaluation.windows
        order = np.argsort(-windows.lengths, kind="stable")
        rows = order[np.arange(PARITY_ROWS) % len(order)]
        width = int(windows.lengths[rows].min())
        types = None if windows.types is None else windows.types[rows, :width]
        return windows.tokens[rows, :width], types
