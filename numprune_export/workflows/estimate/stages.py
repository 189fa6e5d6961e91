"""The stages of pruning as a recipe has them, each with its work and its memory."""

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
)
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.teacher_methods import Refit, ScalarTuning
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import WINDOWS, FisherObs, reads_output_fisher
from numprune_export.recipe import Recipe
from numprune_export.workflows.estimate import forward_passes, gauss_newton, linear_algebra, memory
from numprune_export.workflows.estimate.shapes import Shapes
from numprune_export.workflows.estimate.texts import Texts
from numprune_export.workflows.estimate.work import Work, total

PROOF_STARTS = 1.2
"""What the process of the proof takes, by the start of one: transformers sets itself up once more when
it reads its first model."""
SHAPES = 4
"""Different shapes of a block's weights."""
CALLS = 40.0
"""Operators of a block in one step of writing."""
GGUF_HEADERS = 3.0
"""Times that the header of a GGUF file, with its vocabulary, is taken apart: twice for the model, once
for the tokenizer."""


@dataclass(frozen=True)
class Step:
    """One stage."""

    name: str
    """As in the log and the report of a run, or `read` for the model, which the first stage reads."""
    work: Work
    memory: float
    """Bytes at its peak, the runtime left out."""
    kernels: int = 0
    """Shapes of products that no stage before it has."""


@dataclass(frozen=True)
class Job:
    """What the stages follow from."""

    recipe: Recipe
    shapes: Shapes
    texts: Texts
    gguf: bool

    @property
    def repaired_on(self) -> Texts:
        """The recipe's own and what the model writes."""
        return self._with(self.recipe.generated_text.sequences)

    @property
    def learned_on(self) -> Texts:
        """Gradients are taken on the first of these."""
        return self._with(self.recipe.generated_text.learning)

    def _with(self, written: int) -> Texts:
        return replace(self.texts, sequences=self.texts.sequences + written)

    def steps(self) -> tuple[Step, ...]:
        """In the order of a run."""
        found: list[Step] = [self._read(), *self._written()]
        for number in range(1, self.recipe.rounds + 1):
            found += self._round(number)
        if repairs_at_once(self.recipe) and repairs_on_more_text(self.recipe):
            more, held = self._calibrate(self.shapes, self.repaired_on), float(self.shapes.bytes)
            found.append(Step("calibrate-repair", more.work, held + more.memory, more.kernels))
        found.append(self._prune())
        ended, kept = Work({"stages": 1.0}), self.recipe.matmul_precision
        compiled = accumulate(one.kernels for one in found)
        return tuple(
            replace(one, work=one.work + ended, memory=one.memory + memory.kernels(shapes, kept))
            for one, shapes in zip(found, compiled, strict=True)
        )

    def _read(self) -> Step:
        size = float(self.shapes.bytes)
        work = Work({"files": 2 * size, "hashes": size, "headers": 1.0})
        if self.gguf:
            weights = float(self.shapes.parameters)
            work = Work({"files": 3 * size, "dequantise": weights, "headers": GGUF_HEADERS})
        return Step("read", work, size * (2 if self.gguf else 1))

    def _written(self) -> Iterator[Step]:
        """Text of the model's own, a token at a time for all texts of a batch."""
        settings, shapes = self.recipe.generated_text, self.shapes
        count = settings.sequences
        if not count or not shapes.causal:
            return
        each, side_by_side = settings.per_window, generated_text.WINDOWS * settings.per_window
        own = Texts(count * each, self.texts.length / each, side_by_side, "")
        steps = own.length * own.batches
        # Every step reads every weight, and the keys and values so far: half of their room on average.
        cached = sum(one.produced - one.width for one in shapes.sites if one.kind == "attention")
        cache = own.batch_tokens * cached * shapes.itemsize
        work = divergence(shapes, own) + Work(
            {
                "weights": steps * (shapes.prunable + shapes.head * shapes.hidden),
                "elementwise": steps * cache / 2,
                "calls": CALLS * steps * len(shapes.blocks),
            }
        )
        logits = 2 * 4.0 * side_by_side * shapes.head
        yield Step("write-text", work, shapes.bytes + cache + logits, SHAPES)

    def _round(self, number: int) -> Iterator[Step]:
        recipe, last = self.recipe, number == self.recipe.rounds
        suffix = "" if number == 1 else f"-{number}"
        before = recipe.keep ** ((number - 1) / recipe.rounds)
        after = recipe.keep ** (1 / recipe.rounds)
        start = self.shapes.shrunk(before) if number > 1 else self.shapes
        made = self._one_shot(self.shapes, after) if number > 1 else Work({})
        held = float(self.shapes.bytes) + (start.bytes if number > 1 else 0)
        text = memory.TEXT * self.texts.bytes if number == 1 else 0.0
        moments = self._calibrate(start, self.texts) if reads_moments(recipe) else None
        learned = (("calibrate", moments), ("gradients", self._gradients(start)))
        for name, one in learned:
            if one is not None:
                need = held + text + one.memory
                yield Step(f"{name}{suffix}", one.work + made, need, one.kernels)
                made, text = Work({}), 0.0
        yield Step(f"score{suffix}", self._score(start), held + memory.solving(start))
        suffix, allocate = "" if last else f"-{number}", self._allocate(start, after)
        yield Step(f"allocate{suffix}", allocate.work, held + allocate.memory, allocate.kernels)

    def _calibrate(self, start: Shapes, texts: Texts) -> Step:
        work = total(forward_passes.forward(start, block, texts) for block in start.blocks)
        asked = self.recipe.score.token_stride if isinstance(self.recipe.score, FisherObs) else 1
        widest = max(one.width for one in start.sites)
        seen = texts.one_in(bounded_stride(asked, int(texts.tokens), widest))
        work += total(forward_passes.gram(one, seen) for one in start.sites)
        written = sum(linear_algebra.statistics_bytes(one, fisher=False) for one in start.sites)
        work += Work({"files": written})
        hidden = memory.hidden_states(start, texts)
        need = hidden + memory.activations(start, texts) + memory.grams(start)
        return Step("", work, need, (SHAPES + 2 * STRIPES) * texts.widths)

    def _gradients(self, start: Shapes) -> Step | None:
        """None: the score needs none."""
        texts, score = self.learned_on, self.recipe.score
        if reads_output_fisher(score):
            few = self._differentiated(score)
            written = sum(8.0 * one.inputs**2 for one in start.sites)
            work = output_fisher(start, few) + Work({"files": written})
            need = memory.fisher(start, few)
        elif isinstance(score, Fisher):
            both = (forward_passes.forward, forward_passes.backward)
            work = total(step(start, block, texts) for block in start.blocks for step in both)
            need = memory.gradients(start, texts)
        else:
            return None
        return Step("", work, need, SHAPES * texts.widths)

    def _differentiated(self, score: FisherObs) -> Texts:
        """What output Fisher is gathered on."""
        texts = self.learned_on
        return texts.first(score.sequences or (WINDOWS if self.shapes.causal else texts.sequences))

    def _score(self, start: Shapes) -> Work:
        score = self.recipe.score
        tokens = self._differentiated(score).tokens if reads_output_fisher(score) else 0.0
        return total(linear_algebra.score(one, score, tokens) for one in start.sites)

    def _allocate(self, start: Shapes, keep: float) -> Step:
        settings = self.recipe.allocate
        if isinstance(settings, Curves) and len(settings.candidates) > 1:
            texts, every, small = *self._tried(), start.shrunk(keep)
            tried = self._one_shot(start, keep) + divergence(small, texts, every)
            rest = float(small.prunable * start.itemsize)
            need = memory.solving(start) + memory.divergence(start, texts, every)
            need += memory.activations(start, texts)
            count = len(settings.candidates)
            shapes = count * SHAPES * len(start.blocks) * texts.widths
            work = tried.times(count) + divergence(self.shapes, texts, every)
            return Step("", work, rest + need, shapes)
        if isinstance(settings, Search | LatencyBudget) and isinstance(self.recipe.score, Fisher):
            units = [one.width // one.unit for one in start.sites]
            swaps = keep * sum(8.0 * 6 * one**2 for one in units)
            return Step("", Work({"memory64": swaps, "calls": 6.0 * sum(units)}), 0.0)
        return Step("", Work({"calls": 0.3 * sum(one.width for one in start.sites)}), 0.0)

    def _tried(self) -> tuple[Texts, int]:
        """On what, and of how many tokens one is answered."""
        if not self.shapes.causal:
            return self.texts.first(DIVERGENCE_EXAMPLES), 1
        own = self.recipe.generated_text
        given = not own.sequences or not own.for_trials
        texts = self.texts if given else replace(self.texts, sequences=own.sequences)
        return texts.first(DIVERGENCE_SEQUENCES), DIVERGENCE_STRIDE

    def _one_shot(self, start: Shapes, keep: float) -> Work:
        """Every site refitted from statistics on disk."""
        score = self.recipe.score
        fisher = reads_output_fisher(score)
        return total(
            Work({"files": linear_algebra.statistics_bytes(one, fisher=fisher)})
            + linear_algebra.closed_form(one, keep)
            for one in start.sites
        )

    def _prune(self) -> Step:
        small = self.shapes.shrunk(self.recipe.keep)
        repaired, rest = self._repair(small), float(small.prunable * small.itemsize)
        size = float(small.bytes)
        short = Texts(2, float(PROOF_TOKENS), 2, "")
        proof = divergence(small, short).times(1.5)
        saved = Work({"files": 3 * size, "hashes": size, "processes": PROOF_STARTS}) + proof
        if not self.gguf:  # the saved folder is built twice in the process of the proof
            saved += Work({"headers": 2.0})
        return Step(
            "prune",
            repaired.work + saved,
            self.shapes.bytes + rest + repaired.memory,
            repaired.kernels,
        )

    def _repair(self, small: Shapes) -> Step:
        repair, dense, texts = self.recipe.compensate, self.shapes, self.repaired_on
        hidden = memory.hidden_states(dense, texts) + memory.activations(dense, texts)
        if isinstance(repair, ScalarTuning | Refit):
            work = _tuning(dense, small, texts, repair)
            shapes = (SHAPES * texts.widths + 2 * STRIPES) * len(small.blocks)
            return Step("", work, hidden + memory.moments(small, texts), shapes)
        if not isinstance(repair, ClosedForm):
            reads = Work({"files": sum(4.0 * one.width**2 for one in dense.sites)})
            return Step("", reads, memory.solving(dense) / 4)
        if repair.order == "one_shot":
            return Step("", self._one_shot(dense, self.recipe.keep), memory.solving(dense))
        work = sequential(dense, small, texts, repair)
        work += total(linear_algebra.closed_form(one, self.recipe.keep) for one in dense.sites)
        shapes = SHAPES * texts.widths * len(small.blocks)
        held = memory.held(dense, small, texts, repair, self.recipe.matmul_precision)
        need = hidden + held + memory.solving(dense) + memory.grams(dense)
        return Step("", work, need, shapes)


def output_fisher(shapes: Shapes, texts: Texts) -> Work:
    """Forth, the head, and back with each block run again; sums of g·gᵀ."""
    blocks = total(
        forward_passes.forward(shapes, block, texts).times(2)
        + forward_passes.backward(shapes, block, texts)
        for block in shapes.blocks
    )
    sums = total(
        Work(
            {
                "grams": 2 * forward_passes.SUMMED * texts.tokens * one.inputs**2,
                "memory64": 20.0 * texts.batches * one.inputs**2,
            }
        )
        for one in shapes.sites
    )
    return blocks + sums + forward_passes.head(shapes, texts).times(2)


def divergence(shapes: Shapes, texts: Texts, every: int = 1) -> Work:
    """Answers of one model at one in so many tokens."""
    blocks = total(forward_passes.forward(shapes, block, texts) for block in shapes.blocks)
    return blocks + forward_passes.head(shapes, texts).times(1 / every)


def sequential(dense: Shapes, small: Shapes, texts: Texts, repair: ClosedForm) -> Work:
    """Statistics of each whole site behind those that are cut already, and what is left of it."""
    parts = []
    for block, rest in zip(dense.blocks, small.blocks, strict=True):
        for one, left in zip(block, rest, strict=True):
            if gauss_newton.settings_for(one, left, repair) is not None:
                parts.append(gauss_newton.refit(small, one, left, texts, repair))
                continue
            seen = texts.one_in(repair.stride_alone(one.kind, one.width, int(texts.tokens)))
            parts += [forward_passes.producing(dense, one, texts), forward_passes.gram(one, seen)]
            parts.append(forward_passes.consuming(small, left, texts))
    return total(parts)


def _tuning(dense: Shapes, small: Shapes, texts: Texts, settings: ScalarTuning | Refit) -> Work:
    """A pass of the teacher, each sublayer of the student run once more than its pass, and the fits."""
    parts = []
    for block, rest in zip(dense.blocks, small.blocks, strict=True):
        parts += [
            forward_passes.forward(dense, block, texts),
            forward_passes.forward(small, rest, texts),
        ]
        for index, one in enumerate(rest):
            parts += [
                forward_passes.forward(small, rest[: index + 1], texts),
                forward_passes.gram(one, texts),
            ]
            cross = 2 * texts.tokens * one.inputs * one.width
            parts += [Work({"products": cross}), linear_algebra.tuning(one, settings)]
    return total(parts)
