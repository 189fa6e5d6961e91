"""Peak of live bytes on a device, stage by stage: weights, activations, Gram matrices, solves.

The device frees a tensor with its last reference, so a peak is the largest sum of what is alive at
once. Activations of all texts stay on it up to the room that `numerics.held` leaves. Attention is
taken to hold no matrix of scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from numprune_export.calibration import generated_text
from numprune_export.calibration.gradients.losses import LOGITS_AT_ONCE
from numprune_export.measure.quality.divergence import ROWS_AT_ONCE
from numprune_export.models.device import FILLED
from numprune_export.numerics.held import ROOM
from numprune_export.pipeline.stages.calibrate import repairs_at_once
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.workflows.estimate import memory, recovery, site_memory
from numprune_export.workflows.estimate.gauss_newton import settings_for
from numprune_export.workflows.estimate.shapes import Shapes, Sublayer
from numprune_export.workflows.estimate.stages import Job
from numprune_export.workflows.estimate.texts import Texts

WIDE, NARROW = 8, 9
"""Values per token of a block's graph: of the MLP's width, and of the residual stream's."""
SAMPLED = 24
"""Bytes per logit while a token is drawn; `generated_text` reserves more."""
DISTRIBUTIONS = 4
"""fp32 copies of the logits of ROWS_AT_ONCE tokens while two distributions are compared."""


@dataclass(frozen=True)
class Need:
    """Bytes that are alive at once at a peak."""

    stays: float
    """On the device in any case."""
    waits: float = 0.0
    """Activations of all texts, which may wait in another place."""

    def __add__(self, more: float) -> Need:
        return Need(self.stays + more, self.waits)

    def kept(self, room: float) -> float:
        """Waiting bytes that stay on a device that is filled up to `room`."""
        return min(self.waits, max(0.0, room - self.stays))

    def on(self, room: float) -> float:
        return self.stays + self.kept(room)


@dataclass(frozen=True)
class DevicePeaks:
    """Peaks of a job on a device."""

    job: Job
    streamed: bool
    """Whether blocks are read while they are in use."""
    short: int
    """Bytes of an operand of a linear layer's matmul on that device."""
    free: float = float("inf")
    """Its memory: as many texts are generated at once as fit."""

    def of(self, name: str) -> float:
        """Peak bytes of the stage with this name."""
        return self._need(name).on(self._room)

    def elsewhere(self, name: str) -> float:
        """Bytes of activations that wait in main memory, or in files, at that peak."""
        need = self._need(name)
        return need.waits - need.kept(self._room)

    def waiting(self, name: str) -> float:
        """Bytes of the activations of all texts at that peak, wherever they wait."""
        return self._need(name).waits

    @property
    def _room(self) -> float:
        return (1 - ROOM) * self.free

    def _need(self, name: str) -> Need:
        stage, _, number = name.partition("-")
        if stage == "read":
            return Need(0.0)
        if stage == "write":
            return Need(self._writing())
        own = self._weights + (self._smaller if number.isdigit() else 0.0)
        if stage == "calibrate":
            texts = self.job.repaired_on if number == "repair" else self.job.texts
            # Grams of the last block are still there while the next are gathered.
            return self._moments(texts, blocks=2) + own
        steps = {
            "gradients": self._gradients,
            "score": self._scores,
            "allocate": self._trials,
            "prune": self._repair,
            "recover": self._recovery,
        }
        return steps[stage]() + own

    def _largest(self, needs: Iterable[Need]) -> Need:
        return max(needs, key=lambda need: need.on(self._room))

    @property
    def _shapes(self) -> Shapes:
        return self.job.shapes

    @property
    def _small(self) -> Shapes:
        return self.job.shapes.shrunk(self.job.recipe.keep)

    @property
    def _rest(self) -> float:
        """Embedding, final norm and head."""
        return float(self._shapes.itemsize * (self._shapes.parameters - self._shapes.prunable))

    @property
    def _block(self) -> float:
        return float(self._shapes.itemsize * _largest(self._shapes))

    @property
    def _weights(self) -> float:
        """Weights that stay between stages."""
        return self._rest if self.streamed else float(self._shapes.bytes)

    @property
    def _in_use(self) -> float:
        """Weights of the block that is in use, where they are not among those that stay."""
        return self._block if self.streamed else 0.0

    @property
    def _smaller(self) -> float:
        """The model that a later round starts from; of a streamed one only the block in use."""
        return self._block if self.streamed else float(self._shapes.itemsize * self._small.prunable)

    def _hidden(self, texts: Texts) -> float:
        return memory.hidden_states(self._shapes, texts)

    def _forward(self, texts: Texts) -> float:
        """A batch in one block, at the wider of its sublayers."""
        sites = self._shapes.sites
        stream = self._shapes.hidden * (self._shapes.itemsize + self._shapes.stream_itemsize)
        values = max(
            3 * site.width if site.kind == "mlp" else 3 * site.width + site.produced
            for site in sites
        )
        return texts.batch_tokens * (values * self._shapes.itemsize + stream)

    def _moments(self, texts: Texts, *, blocks: int) -> Need:
        """One pass of the texts; Gram matrices of so many blocks are alive at once."""
        size = self._shapes.itemsize
        widest = max(site.width for site in self._shapes.sites)
        grams = blocks * max(sum(4.0 * s.width**2 for s in block) for block in self._shapes.blocks)
        stream = self._shapes.hidden * (size + self._shapes.stream_itemsize)
        summed = texts.batch_tokens * (stream + widest * (2 * size + 4))
        checked = 7.0 * widest**2
        batch = max(self._forward(texts), summed, checked)
        return Need(self._in_use + grams + batch, self._hidden(texts))

    def _gradients(self) -> Need:
        score, shapes = self.job.recipe.score, self._shapes
        if isinstance(score, Fisher):
            return Need(memory.gradients(shapes, self.job.learned_on))
        assert reads_output_fisher(score)
        texts = self.job.differentiated(score)
        of_blocks = [sum(8.0 * site.inputs**2 for site in block) for block in shapes.blocks]
        together = self.streamed or len(shapes.blocks) * self._hidden(texts) <= sum(of_blocks)
        # Those of the last block are still there while the next are summed up.
        sums = 2 * max(of_blocks) if together else sum(of_blocks)
        at_once = texts if together else texts.first(texts.batch)
        widest = max(site.width for site in shapes.sites)
        graph = texts.batch_tokens * shapes.itemsize * (WIDE * widest + NARROW * shapes.hidden)
        logits = min(LOGITS_AT_ONCE, texts.batch_tokens * shapes.head)
        loss = memory.LOGIT_COPIES * 4.0 * logits + (0.0 if together else sums)
        return Need(self._in_use + max(graph + sums, loss), 2 * self._hidden(at_once))

    def _scores(self) -> Need:
        score, size = self.job.recipe.score, self._shapes.itemsize if self.streamed else 0
        at_once = self.job.scores_at_once
        scored = max(
            site_memory.scored(site, score)
            + size * site.width * site.inputs
            + sum(4.0 * later.width**2 for later in block[index + 1 :] if at_once)
            for block in self._shapes.blocks
            for index, site in enumerate(block)
        )
        if not at_once:
            return Need(scored)
        texts = self.job.texts
        needs = [Need(scored, self._hidden(texts)), self._moments(texts, blocks=1)]
        return self._largest(needs)

    def _trials(self) -> Need:
        recipe, shapes = self.job.recipe, self._shapes
        if not (isinstance(recipe.allocate, Curves) and len(recipe.allocate.candidates) > 1):
            return Need(0.0)
        texts, stride = self.job.tried
        solve = max(self._one_shot(site, recipe.keep) for site in shapes.sites)
        value, batch = 4.0 * shapes.head, texts.batch_tokens / stride
        held = value * texts.tokens / stride
        logits = value * (batch + DISTRIBUTIONS * min(ROWS_AT_ONCE, batch))
        own = self._pruned + self._in_use + held
        hidden = self._hidden(texts) if self.streamed else 0.0
        work = max(solve - self._unmade, self._forward(texts))
        return self._largest([Need(own + work, hidden), Need(own + logits)])

    @property
    def _pruned(self) -> float:
        """Pruned weights: of the whole model, or of the block that is in use."""
        small = self._small
        return float(small.itemsize * (_largest(small) if self.streamed else small.prunable))

    @property
    def _unmade(self) -> float:
        """Pruned weights of the last MLP, which are not there while it is solved."""
        return float(self._small.itemsize * max(site.weights for site in self._small.sites))

    def _one_shot(self, site: Sublayer, keep: float) -> float:
        kept = site.shrunk(keep).width
        return site_memory.statistics(site, fisher=False) + site_memory.solved(site, kept)

    def _repair(self) -> Need:
        recipe, shapes = self.job.recipe, self._shapes
        repair, own = recipe.compensate, self._pruned + self._in_use
        if isinstance(repair, ClosedForm) and not repairs_at_once(recipe):
            sites = zip(shapes.sites, self._small.sites, strict=True)
            needs = (self._sequential(site, left, repair) for site, left in sites)
            return self._largest(need + own for need in needs)
        if isinstance(repair, ClosedForm):
            solve = max(self._one_shot(site, recipe.keep) for site in shapes.sites)
            return Need(own - self._unmade + solve)
        return Need(own + max(4.0 * site.width**2 for site in shapes.sites))

    def _recovery(self) -> Need:
        shapes, small = self._shapes, self._small
        return Need(self._in_use + recovery.need(shapes, small, self.job.trained_on))

    def _sequential(self, site: Sublayer, left: Sublayer, repair: ClosedForm) -> Need:
        """One site behind the pruned prefix: hidden states, and what is kept until it is refitted."""
        texts, size = self.job.repaired_on, self._shapes.itemsize
        # Hidden states, and the output of the attention before an MLP.
        states = self._hidden(texts) * (2 if site.kind == "mlp" else 1)
        statistics = site_memory.statistics(site, fisher=False)
        settings = settings_for(site, left, repair)
        if settings is None:
            inputs = texts.tokens * left.width * size
            solve = site_memory.solved(site, left.width)
            work = max(solve, self._forward(texts)) - self._unmade
            return Need(statistics + work, states + inputs)
        residual = texts.tokens * site.inputs
        targets = 4.0 * residual / repair.token_stride
        held = states + residual * self.short + targets
        values, outputs = texts.tokens * left.width * self.short, residual * (4.0 + size)
        solved = Need(statistics + site_memory.refitted(site, left), held + values)
        each = self.short * (2 * site.inputs + left.produced) + 4.0 * site.inputs
        step = site_memory.changed(left) + texts.tokens / settings.token_stride * each
        return self._largest(
            [Need(statistics + step, held), solved, Need(statistics, held + outputs)]
        )

    def _writing(self) -> float:
        """The whole model, and keys, values and sampling of the texts that are generated at once."""
        shapes, settings = self._shapes, self.job.recipe.generated_text
        length = round(self.job.written_on.length)
        each = generated_text.bytes_per_text(self.job.cached, shapes.head, length)
        left = max(0.0, FILLED * self.free - shapes.bytes)
        rows = generated_text.at_once(settings, left, each)
        return shapes.bytes + float(rows * (4 * self.job.cached * length + SAMPLED * shapes.head))


def _largest(shapes: Shapes) -> int:
    """Weights of the largest block."""
    return max(sum(site.weights for site in block) for block in shapes.blocks)
