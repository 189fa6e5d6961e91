"""Causal language models: perplexity, parity of logits, latency of prefill and decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.interleaving import interleaved
from numprune_export.data.mix import SourceReader
from numprune_export.data.written_text import written_windows
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter, GraphBacked
from numprune_export.export.runner import Tokens
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.pairs import Latencies
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.measure.parity import decoder as decoder_parity
from numprune_export.measure.parity.streamed import compare_streamed
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.measure.quality.lm_eval.suite import TaskSuite
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.precision import decoder_rounding_error
from numprune_export.measure.reference.streamed import StreamedLm
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.models.residency import source_of
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.kinds.causal_lm_gradients import CausalLmGradients
from numprune_export.pipeline.kinds.causal_lm_latency import measure_latency
from numprune_export.pipeline.kinds.evaluation_texts import EvaluationTexts
from numprune_export.pipeline.kinds.kind import Ideal, Opener, Proof
from numprune_export.pipeline.kinds.recovery_texts import recovery_texts
from numprune_export.pipeline.kinds.text_sources import summaries
from numprune_export.pipeline.models import Dense, Models, Variant
from numprune_export.recipe import Recipe
from numprune_export.recipe.model_fit import require_fit

PROOF_TOKENS = 64

LONGEST_PROMPT = 64
"""Prompt tokens of the parity check; its rows are evaluation text."""

DIVERGENCE_SEQUENCES = 4
"""Calibration sequences for comparing plans."""
DIVERGENCE_STRIDE = 4
"""Token stride of these sequences: neighbouring tokens are correlated."""

COMPARED_RUNS = 4
"""Cost of a comparison in runs of its rows: PyTorch in fp64, counted twice, PyTorch in the
artifact's dtype, and the artifact."""

DENSE_STEPS = 8
"""Maximum of decode steps in the parity check of the dense artifact, exported by the same code."""


class CausalLm:
    """See ModelKind."""

    def __init__(
        self, recipe: Recipe, family: RotaryDecoder, dense: Dense, search: Sequence[Path]
    ) -> None:
        """Draw the calibration and the evaluation text.

        Raises:
            RecipeError: the recipe is for another kind of model.
            InputError: there is no tokenizer, or too little text.
        """
        self._recipe, self._family = recipe, family
        calibration, evaluation = recipe.calibration, recipe.evaluation
        require_fit(recipe, family)
        assert isinstance(calibration, Corpus)
        assert isinstance(evaluation, Corpus)
        tokenizer = dense.require_tokenizer()
        reader = SourceReader(tokenizer, search, dense.embeddings)
        sources = reader.shared(calibration)
        windows = interleaved([source.windows for source in sources])
        written, own = None, recipe.generated_text
        if own.texts is not None:
            written = written_windows(
                own.texts, search, tokenizer,
                shape=(own.sequences, windows.tokens.shape[1]), embeddings=dense.embeddings,
            )  # fmt: skip
        self.texts = CalibrationTexts.of(windows, calibration.batch, written)
        self.gradients = CausalLmGradients(recipe.score, family)
        self.recovery = recovery_texts(recipe.recover, calibration, reader)
        self._evaluation = EvaluationTexts(
            reader.each(evaluation), evaluation.mix is not None, evaluation.batch
        )
        self.text_sources = summaries(sources, self._evaluation.sources, search)
        self._tasks = None
        if recipe.tasks is not None:
            positions = int(dense.skeleton.config.max_position_embeddings)
            self._tasks = TaskSuite.load(
                recipe.tasks, tokenizer, search, positions=positions, embeddings=dense.embeddings
            )
        self._rows = parity_rows(self._evaluation.tokens, recipe.parity.steps)
        benchmark = recipe.benchmark
        prompt = (benchmark.batch, max(benchmark.prefill, benchmark.past))
        tokens = np.resize(self._evaluation.tokens, prompt)
        self._workload = DecoderWorkload(
            tokens, benchmark.prefill, benchmark.past, benchmark.decode_steps
        )

    @property
    def evaluation_key(self) -> Any:
        """See ModelKind.evaluation_key."""
        return self._evaluation.key, self._evaluation.batch

    @property
    def benchmark_key(self) -> Any:
        """See ModelKind.benchmark_key."""
        unused = {"batches", "lengths"}
        return self._evaluation.tokens_key, self._recipe.benchmark.model_dump(exclude=unused)

    @property
    def tasks_key(self) -> Any:
        """See ModelKind.tasks_key."""
        return None if self._tasks is None else self._tasks.key

    @property
    def mean_length(self) -> float:
        """See ModelKind.mean_length."""
        return float(self.texts.moments.lengths.mean())

    def dense_logits(self, dense: PreTrainedModel, texts: CalibrationTexts) -> DenseLogits:
        """See ModelKind.dense_logits: of next tokens."""
        windows = texts.trials.first(DIVERGENCE_SEQUENCES)
        return DenseLogits.of(
            dense, self._family, windows, batch=texts.batch, stride=DIVERGENCE_STRIDE
        )

    def proof(self, texts: CalibrationTexts) -> Proof:
        """See ModelKind.proof."""
        return Proof(torch.from_numpy(texts.compensation.tokens[:1, :PROOF_TOKENS]))

    def export(
        self, exporter: Exporter, model: PreTrainedModel, folder: Path, settings: BaseModel
    ) -> Artifact:
        """See ModelKind.export."""
        return exporter.export(self._family.decoder(model), folder, settings)

    @property
    def evaluated(self) -> int:
        """See ModelKind.evaluated."""
        return len(self._evaluation.tokens)

    @property
    def compared(self) -> int:
        """See ModelKind.compared."""
        return -(-COMPARED_RUNS * int(self._rows.size) // int(self._evaluation.tokens.shape[1]))

    def work(self, models: Models) -> Metrics:
        """See ModelKind.work."""
        return {}

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        """See ModelKind.scores: `perplexity`, or `perplexity.<source>` of several sources; and
        `lm_eval.*` if the recipe has tasks."""
        measured = self._evaluation.scores(runner, under, observer)
        if self._tasks is None:
            return measured
        tasks = self._tasks.scores(runner, under, observer)
        return replace(measured, metrics={**measured.metrics, **tasks})

    def reference(
        self, model: PreTrainedModel, threads: int | None = None
    ) -> AbstractContextManager[Any]:
        """See ModelKind.reference."""
        if source_of(model) is not None:
            return StreamedLm(model, self._family)
        return TorchRunner(model, threads=threads)

    def opened(self, exporter: Exporter, artifact: Artifact) -> AbstractContextManager[Any]:
        """See ModelKind.opened."""
        longest = max(self._evaluation.tokens.shape[1], self._tasks.longest if self._tasks else 0)
        return exporter.open(artifact, threads=torch.get_num_threads(), capacity=longest)

    def rounding_error(self, model: PreTrainedModel, dtype: str, variant: Variant) -> float:
        """See ModelKind.rounding_error."""
        return decoder_rounding_error(model, self._rows_of(variant), getattr(torch, dtype))

    def openers(self, exported: Exported) -> Mapping[str, Opener]:
        """See ModelKind.openers; the graph behind an engine comes before the engine."""
        exporter, name = exported.target.exporter, exported.target.name
        threads = torch.get_num_threads()
        openers: dict[str, Opener] = {}
        if isinstance(exporter, GraphBacked):
            openers[f"{name}-graph"] = partial(exporter.open_graph, threads=threads)
        openers[name] = partial(exporter.open, threads=threads)
        return openers

    def compare(
        self, exact: PreTrainedModel, opener: Opener, artifact: Artifact, variant: Variant
    ) -> decoder_parity.Parity:
        """See ModelKind.compare."""
        rows, shapes = self._rows_of(variant), _shapes(artifact)
        longest = max(
            rows.shape[1], *(shape.length + decoder_parity.SHAPE_STEPS for shape in shapes), 0
        )
        if source_of(exact) is not None:
            with opener(artifact, capacity=longest) as candidate:
                return compare_streamed(
                    (exact, self._family), candidate, rows,
                    steps=self._steps(variant), shapes=shapes,
                )  # fmt: skip
        with (
            TorchRunner(exact, threads=None) as reference,
            opener(artifact, capacity=longest) as candidate,
        ):
            return decoder_parity.compare(
                reference, candidate, rows, steps=self._steps(variant), shapes=shapes
            )

    def latency(
        self,
        models: Models,
        exported: Sequence[Exported],
        observer: Observer,
        ideal: Ideal | None = None,
    ) -> Latencies:
        """See ModelKind.latency."""
        return measure_latency(
            self._recipe.benchmark, self._family, models, exported, self._workload, observer, ideal
        )

    def memory(self, exported: Exported) -> Metrics:
        """See ModelKind.memory."""
        benchmark = self._recipe.benchmark
        return measure_memory(
            exported.target.name,
            {variant: artifact.folder for variant, artifact in exported.artifacts.items()},
            threads=benchmark.threads,
            batch=benchmark.batch,
            prompt_tokens=benchmark.prefill,
            decode_steps=benchmark.decode_steps,
        )

    def _steps(self, variant: Variant) -> int:
        steps = self._recipe.parity.steps
        return steps if variant == "pruned" else min(steps, DENSE_STEPS)

    def _rows_of(self, variant: Variant) -> Tokens:
        skipped = self._recipe.parity.steps - self._steps(variant)
        return self._rows[:, : self._rows.shape[1] - skipped]


def parity_rows(tokens: Tokens, steps: int) -> Tokens:
    """Three rows of text, at most `LONGEST_PROMPT + steps` tokens long.

    Raises:
        InputError: the windows are too short for `steps`.
    """
    width = min(tokens.shape[1], LONGEST_PROMPT + steps)
    if width < steps + 4:
        raise InputError(
            f"evaluation windows of {width} tokens are too short for {steps} parity steps",
            hint="raise `evaluation.tokens_per_sequence`, or lower `parity.steps`",
        )
    return np.resize(tokens[:, :width], (3, width))


def _shapes(artifact: Artifact) -> list[decoder_parity.Shape]:
    """Prompt shapes of a compiled engine, from its fact `prefill_shapes`."""
    profiles: Mapping[str, list[int]] = artifact.facts.get("prefill_shapes", {})
    return [decoder_parity.Shape(f"profile {name}", *shape) for name, shape in profiles.items()]
