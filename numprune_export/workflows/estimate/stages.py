"""Stages of a recipe's pruning, each with its work and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from numprune_export.calibration import generated_text
from numprune_export.calibration.token_stride import bounded_stride
from numprune_export.numerics.gram import STRIPES
from numprune_export.pipeline.kinds.causal_lm import (
    DIVERGENCE_SEQUENCES,
    DIVERGENCE_STRIDE,
    PROOF_TOKENS,
)
from numprune_export.pipeline.kinds.task_encoder import DIVERGENCE_EXAMPLES
from numprune_export.pipeline.stages.calibrate import (
    reads_moments,
    repairs_at_once,
    repairs_on_more_text,
    rereads_moments,
)
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import WINDOWS, FisherObs, reads_output_fisher
from numprune_export.recipe import Recipe
from numprune_export.workflows.estimate import (
    forward_passes,
    gauss_newton,
    linear_algebra,
    memory,
    recovery,
)
from numprune_export.workflows.estimate.shapes import Shapes
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work, total

PROOF_STARTS = 1.2
"""Start of the process that proves the checkpoint, relative to the start of this process;
transformers initialises again for its first model."""
SHAPES = 4
"""Distinct weight shapes of a block."""
CALLS = 40.0
"""Operator calls of a block in one decode step."""
GGUF_HEADERS = 3.0
"""How often the header of a GGUF file is parsed: twice for the model, once for the tokenizer."""


@dataclass(frozen=True)
class Step:
    """Work and memory of one stage."""

    name: str
    """As in the log and the report of a run; `read` is the reading of the model."""
    work: Work
    memory: float
    """Peak bytes, without the runtime."""
    kernels: int = 0
    """Shapes of matrix products that are new in this stage."""

    @property
    def holds_pruned(self) -> bool:
        """Whether the memory holds the pruned layers of the whole model."""
        return self.name == "prune" or (self.name == "allocate" and self.kernels > 0)


@dataclass(frozen=True)
class Job:
    """Inputs of the stages: recipe, shapes and texts."""

    recipe: Recipe
    shapes: Shapes
    texts: Texts
    gguf: bool

    @property
    def repaired_on(self) -> Texts:
        """Texts of the compensation: the recipe's and all generated sequences."""
        return self._with(self.recipe.generated_text.sequences)

    @property
    def learned_on(self) -> Texts:
        """Texts of the gradients: the recipe's and generated sequences; only the first are used."""
        return self._with(self.recipe.generated_text.learning)

    @property
    def written_on(self) -> Texts:
        """Generated texts; those of a group are decoded together."""
        settings = self.recipe.generated_text
        each, group = settings.per_window, generated_text.WINDOWS * settings.per_window
        return Texts(settings.sequences * each, self.texts.length / each, group, "")

    @property
    def scores_at_once(self) -> bool:
        """Whether Gram matrices are scored as they are collected, and stored nowhere."""
        return reads_moments(self.recipe) and not rereads_moments(self.recipe)

    @property
    def cached(self) -> int:
        """Keys and values per token."""
        attention = (site for site in self.shapes.sites if site.kind == "attention")
        return sum(site.produced - site.width for site in attention)

    def _with(self, written: int) -> Texts:
        return replace(self.texts, sequences=self.texts.sequences + written)

    def steps(self) -> tuple[Step, ...]:
        """Stages in the order of a run."""
        steps: list[Step] = [self._read(), *self._written()]
        for number in range(1, self.recipe.rounds + 1):
            steps += self._round(number)
        if repairs_at_once(self.recipe) and repairs_on_more_text(self.recipe):
            more, held = self._calibrate(self.shapes, self.repaired_on), float(self.shapes.bytes)
            steps.append(Step("calibrate-repair", more.work, held + more.memory, more.kernels))
        steps += [self._prune(), *self._recovered()]
        ended, precision = Work({"stages": 1.0}), self.recipe.matmul_precision
        compiled = accumulate(step.kernels for step in steps)
        return tuple(
            replace(
                step, work=step.work + ended, memory=step.memory + memory.kernels(shapes, precision)
            )
            for step, shapes in zip(steps, compiled, strict=True)
        )

    def _read(self) -> Step:
        size = float(self.shapes.bytes)
        work = Work({"files": 2 * size, "hashes": size, "headers": 1.0})
        if self.gguf:
            weights = float(self.shapes.parameters)
            work = Work({"files": 3 * size, "dequantise": weights, "headers": GGUF_HEADERS})
        return Step("read", work, size * (2 if self.gguf else 1))

    def _written(self) -> Iterator[Step]:
        """Generated text, decoded in batches."""
        settings, shapes = self.recipe.generated_text, self.shapes
        if not settings.sequences or settings.texts is not None or not shapes.causal:
            return
        own = self.written_on
        steps = own.length * own.batches
        # Every step reads all weights and the filled KV cache: half of its capacity on average.
        cache = own.batch_tokens * self.cached * shapes.itemsize
        work = divergence(shapes, own) + Work(
            {
                "weights": steps * (shapes.prunable + shapes.head * shapes.hidden),
                "elementwise": steps * cache / 2,
                "calls": CALLS * steps * len(shapes.blocks),
                "stages": steps / generated_text.CHECKED,
            }
        )
        logits = 2 * 4.0 * own.batch * shapes.head
        yield Step("write-text", work, shapes.bytes + cache + logits, SHAPES)

    def _round(self, number: int) -> Iterator[Step]:
        recipe, last = self.recipe, number == self.recipe.rounds
        suffix = "" if number == 1 else f"-{number}"
        before = recipe.keep ** ((number - 1) / recipe.rounds)
        after = recipe.keep ** (1 / recipe.rounds)
        start = self.shapes.shrunk(before) if number > 1 else self.shapes
        interim = self._one_shot(self.shapes, after) if number > 1 else Work({})
        held = float(self.shapes.bytes) + (start.bytes if number > 1 else 0)
        text = memory.TEXT * self.texts.bytes if number == 1 else 0.0
        at_once, stored = self.scores_at_once, None
        if reads_moments(recipe) and not at_once:
            stored = self._calibrate(start, self.texts)
        statistics = (("calibrate", stored), ("gradients", self._gradients(start)))
        for name, step in statistics:
            if step is not None:
                need = held + text + step.memory
                yield Step(f"{name}{suffix}", step.work + interim, need, step.kernels)
                interim, text = Work({}), 0.0
        scored = Step(f"score{suffix}", self._score(start), held + memory.solving(start))
        if at_once:
            passing = self._calibrate(start, self.texts, stored=False)
            work, need = scored.work + passing.work, scored.memory + text + passing.memory
            scored = Step(scored.name, work, need, passing.kernels)
        yield scored
        suffix, allocate = "" if last else f"-{number}", self._allocate(start, after)
        yield Step(f"allocate{suffix}", allocate.work, held + allocate.memory, allocate.kernels)

    def _calibrate(self, start: Shapes, texts: Texts, *, stored: bool = True) -> Step:
        work = total(forward_passes.forward(start, block, texts) for block in start.blocks)
        stride = self.recipe.score.token_stride if isinstance(self.recipe.score, FisherObs) else 1
        widest = max(site.width for site in start.sites)
        seen = texts.strided(bounded_stride(stride, int(texts.tokens), widest))
        work += total(forward_passes.gram(site, seen) for site in start.sites)
        if stored:
            written = sum(linear_algebra.statistics_bytes(site) for site in start.sites)
            work += Work({"files": written})
        hidden = memory.hidden_states(start, texts)
        need = hidden + memory.activations(start, texts) + memory.grams(start)
        return Step("", work, need, (SHAPES + 2 * STRIPES) * texts.widths)

    def _gradients(self, start: Shapes) -> Step | None:
        """Gradients of a score; None: the score needs none."""
        texts, score = self.learned_on, self.recipe.score
        if reads_output_fisher(score):
            few = self.differentiated(score)
            written = sum(
                linear_algebra.statistics_bytes(site, gram=False, fisher=True)
                for site in start.sites
            )
            work = output_fisher(start, few) + Work({"files": written})
            need = memory.fisher(start, few)
        elif isinstance(score, Fisher):
            both = (forward_passes.forward, forward_passes.backward)
            work = total(step(start, block, texts) for block in start.blocks for step in both)
            need = memory.gradients(start, texts)
        else:
            return None
        return Step("", work, need, SHAPES * texts.widths)

    def differentiated(self, score: FisherObs) -> Texts:
        """Texts on which output Fisher is accumulated."""
        texts = self.learned_on
        return texts.first(score.sequences or (WINDOWS if self.shapes.causal else texts.sequences))

    def _score(self, start: Shapes) -> Work:
        score = self.recipe.score
        tokens = self.differentiated(score).tokens if reads_output_fisher(score) else 0.0
        stored = not self.scores_at_once
        return total(
            linear_algebra.score(site, score, tokens, stored=stored) for site in start.sites
        )

    def _allocate(self, start: Shapes, keep: float) -> Step:
        settings = self.recipe.allocate
        if isinstance(settings, Curves) and len(settings.candidates) > 1:
            texts, stride, small = *self.tried, start.shrunk(keep)
            tried = self._one_shot(start, keep) + divergence(small, texts, stride)
            rest = float(small.prunable * start.itemsize)
            need = memory.solving(start) + memory.divergence(start, texts, stride)
            need += memory.activations(start, texts)
            count = len(settings.candidates)
            shapes = count * SHAPES * len(start.blocks) * texts.widths
            work = tried.times(count) + divergence(self.shapes, texts, stride)
            return Step("", work, rest + need, shapes)
        if isinstance(settings, Search | LatencyBudget) and isinstance(self.recipe.score, Fisher):
            units = [site.width // site.unit for site in start.sites]
            swaps = keep * sum(8.0 * 6 * count**2 for count in units)
            return Step("", Work({"memory64": swaps, "calls": 6.0 * sum(units)}), 0.0)
        return Step("", Work({"calls": 0.3 * sum(site.width for site in start.sites)}), 0.0)

    @property
    def tried(self) -> tuple[Texts, int]:
        """Texts of the trials, and the token stride of their divergence."""
        if not self.shapes.causal:
            return self.texts.first(DIVERGENCE_EXAMPLES), 1
        own = self.recipe.generated_text
        given = not own.sequences or not own.for_trials
        texts = self.texts if given else replace(self.texts, sequences=own.sequences)
        return texts.first(DIVERGENCE_SEQUENCES), DIVERGENCE_STRIDE

    def _one_shot(self, start: Shapes, keep: float) -> Work:
        """One-shot compensation of every site, from statistics on disk."""
        return total(
            Work({"files": linear_algebra.statistics_bytes(site)})
            + linear_algebra.closed_form(site, keep)
            for site in start.sites
        )

    def _prune(self) -> Step:
        small = self.shapes.shrunk(self.recipe.keep)
        repaired, rest = self._repair(small), float(small.prunable * small.itemsize)
        size = float(small.bytes)
        short = Texts(2, float(PROOF_TOKENS), 2, "")
        proof = divergence(small, short).times(1.5)
        saved = Work({"files": 3 * size, "hashes": size, "processes": PROOF_STARTS}) + proof
        if not self.gguf:  # the proof builds the saved model twice
            saved += Work({"headers": 2.0})
        return Step(
            "prune",
            repaired.work + saved,
            self.shapes.bytes + rest + repaired.memory,
            repaired.kernels,
        )

    @property
    def trained_on(self) -> Texts:
        """Texts of all steps of a recovery, whose minutes are not counted."""
        settings = self.recipe.recover
        assert settings is not None
        windows = -(-settings.tokens // int(self.texts.length))
        return replace(self.texts, sequences=windows, batch=settings.batch)

    def _recovered(self) -> Iterator[Step]:
        if self.recipe.recover is None:
            return
        small, texts = self.shapes.shrunk(self.recipe.keep), self.trained_on
        saved = Work({"files": 3.0 * small.bytes, "hashes": small.bytes, "processes": PROOF_STARTS})
        work = recovery.work(self.shapes, small, texts) + saved
        need = self.shapes.bytes + recovery.need(self.shapes, small, texts)
        yield Step("recover", work, need, SHAPES * texts.widths)

    def _repair(self, small: Shapes) -> Step:
        repair, dense, texts = self.recipe.compensate, self.shapes, self.repaired_on
        hidden = memory.hidden_states(dense, texts) + memory.activations(dense, texts)
        if isinstance(repair, ScalarTuning | Refit):
            work = _tuning(dense, small, texts, repair)
            shapes = (SHAPES * texts.widths + 2 * STRIPES) * len(small.blocks)
            return Step("", work, hidden + memory.moments(small, texts), shapes)
        if not isinstance(repair, ClosedForm):
            read = dense.sites if repairs_at_once(self.recipe) else ()
            reads = sum(linear_algebra.statistics_bytes(site) for site in read)
            return Step("", Work({"files": reads}), memory.solving(dense) / 4)
        if repair.order == "one_shot":
            return Step("", self._one_shot(dense, self.recipe.keep), memory.solving(dense))
        work = sequential(dense, small, texts, repair)
        work += total(linear_algebra.closed_form(site, self.recipe.keep) for site in dense.sites)
        shapes = SHAPES * texts.widths * len(small.blocks)
        held = memory.held(dense, small, texts, repair, self.recipe.matmul_precision)
        need = hidden + held + memory.solving(dense) + memory.grams(dense)
        return Step("", work, need, shapes)


def output_fisher(shapes: Shapes, texts: Texts) -> Work:
    """Forward pass, head, backward pass with recomputed blocks, and sums of g·gᵀ."""
    blocks = total(
        forward_passes.forward(shapes, block, texts).times(2)
        + forward_passes.backward(shapes, block, texts)
        for block in shapes.blocks
    )
    sums = total(
        Work(
            {
                "grams": 2 * forward_passes.SUMMED * texts.tokens * site.inputs**2,
                "memory64": 20.0 * texts.batches * site.inputs**2,
            }
        )
        for site in shapes.sites
    )
    return blocks + sums + forward_passes.head(shapes, texts).times(2)


def divergence(shapes: Shapes, texts: Texts, stride: int = 1) -> Work:
    """Logits of one model at every `stride`-th token."""
    blocks = total(forward_passes.forward(shapes, block, texts) for block in shapes.blocks)
    return blocks + forward_passes.head(shapes, texts).times(1 / stride)


def sequential(dense: Shapes, small: Shapes, texts: Texts, repair: ClosedForm) -> Work:
    """Sequential compensation: statistics of each dense site after pruned sites, then its output."""
    parts = []
    for block, rest in zip(dense.blocks, small.blocks, strict=True):
        for site, left in zip(block, rest, strict=True):
            if gauss_newton.settings_for(site, left, repair) is not None:
                parts.append(gauss_newton.refit(small, site, left, texts, repair))
                continue
            seen = texts.strided(repair.stride_alone(site.kind, site.width, int(texts.tokens)))
            parts += [forward_passes.producing(dense, site, texts), forward_passes.gram(site, seen)]
            parts.append(forward_passes.consuming(small, left, texts))
    return total(parts)


def _tuning(dense: Shapes, small: Shapes, texts: Texts, settings: ScalarTuning | Refit) -> Work:
    """Teacher pass, student passes (each sublayer runs once more), and the fits."""
    parts = []
    for block, rest in zip(dense.blocks, small.blocks, strict=True):
        parts += [
            forward_passes.forward(dense, block, texts),
            forward_passes.forward(small, rest, texts),
        ]
        for index, site in enumerate(rest):
            parts += [
                forward_passes.forward(small, rest[: index + 1], texts),
                forward_passes.gram(site, texts),
            ]
            cross = 2 * texts.tokens * site.inputs * site.width
            parts += [Work({"products": cross}), linear_algebra.tuning(site, settings)]
    return total(parts)
