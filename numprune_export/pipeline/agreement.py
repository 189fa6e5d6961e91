"""Whether what was exported is the model: PyTorch against the graph, PyTorch against the artifact.

Where an engine was compiled from a graph, the graph is compared too, so that an error is the export's
or the compiler's, and never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from numprune_export import heap
from numprune_export.artifact import Artifact, DecoderRunner, GraphBacked, Tokens
from numprune_export.corpus import Windows
from numprune_export.errors import InputError, ParityError
from numprune_export.metric import Metric, Metrics
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import facts_of
from numprune_export.pipeline.models import VARIANTS, Models, Variant
from numprune_export.validate import parity
from numprune_export.validate.bisect import cut, first_wrong_layer
from numprune_export.validate.precision import computing_in, rounding_error
from numprune_export.validate.reference import TorchRunner

LONGEST_PROMPT = 64
"""Prompt tokens of the parity check; its rows come from the evaluation text."""

DENSE_STEPS = 8
"""Decode steps in the parity check of the dense artifact."""

BISECT_STEPS = 2
"""Decode steps when a wrong layer is looked for."""


class Opener(Protocol):
    """Opens an artifact for sequences up to `capacity` tokens."""

    def __call__(self, artifact: Artifact, *, capacity: int) -> DecoderRunner: ...


def parity_rows(windows: Windows, steps: int) -> Tokens:
    """Three rows of real text, as long as the windows allow."""
    width = min(windows.tokens.shape[1], LONGEST_PROMPT + steps)
    if width < steps + 4:
        raise InputError(
            f"evaluation windows of {width} tokens are too short for {steps} parity steps",
            hint="raise `evaluation.tokens_per_sequence`, or lower `parity.steps`",
        )
    return np.resize(windows.tokens[:, :width], (3, width))


def agree(
    context: Context, models: Models, exported: Exported, rows: Tokens, device: str
) -> Metrics:
    """Compare both variants of a target, as graph and as artifact, as far as they can run here.

    Raises:
        ParityError: one disagrees with PyTorch; the message names the first wrong layer.
    """
    found: Metrics = {}
    for variant in VARIANTS:
        for name, opener in _openers(exported).items():
            heap.release()
            found |= _Check(context, models, exported, variant, name, opener, device).metrics(rows)
    return found


def unchecked(exported: Exported) -> dict[str, str]:
    """What could not be compared here, by the name it would be reported under, and why."""
    target, found = exported.target, {}
    if isinstance(target.exporter, GraphBacked):
        reason = target.exporter.graph_cannot_run(exported.artifacts["pruned"])
        if reason is not None:
            found[f"{target.name}-graph"] = reason
    if target.cannot_run is not None:
        found[target.name] = target.cannot_run
    return found


def _openers(exported: Exported) -> dict[str, Opener]:
    """How to open what can be compared, by the name it is reported under; the graph comes first."""
    exporter, threads = exported.target.exporter, torch.get_num_threads()
    found: dict[str, Opener] = {}
    if isinstance(exporter, GraphBacked):
        found[f"{exported.target.name}-graph"] = partial(exporter.open_graph, threads=threads)
    found[exported.target.name] = partial(exporter.open, threads=threads)
    missing = unchecked(exported)
    return {name: one for name, one in found.items() if name not in missing}


@dataclass(frozen=True)
class _Check:
    """One variant of one target, opened in one way."""

    context: Context
    models: Models
    exported: Exported
    variant: Variant
    name: str
    opener: Opener
    device: str

    def metrics(self, rows: Tokens) -> Metrics:
        """`parity.<name>[.dense].*`; fails where the recipe says that an error is too large."""
        recipe, model = self.context.recipe.parity, self.models.get(self.variant)
        # The dense artifact comes from the same code, so fewer of its fp64 steps are paid for.
        steps = recipe.steps if self.variant == "pruned" else min(recipe.steps, DENSE_STEPS)
        rows = rows[:, : rows.shape[1] - recipe.steps + steps]
        artifact = self.exported.artifacts[self.variant]
        unavoidable, tolerance = self._tolerance(model, rows)
        found = self._compare(model, artifact, rows, steps)
        try:
            parity.check(found, tolerance, name=f"{self.name}/{self.variant}")
        except ParityError as error:
            if not recipe.bisect:
                raise
            raise ParityError(
                f"{error}; {self._first_wrong(model, rows)}", hint=error.hint
            ) from None
        prefix = f"parity.{self.name}" + ("" if self.variant == "pruned" else ".dense")
        under = {**facts_of(self.exported), "reference": "torch float64", "tolerance": tolerance}
        own = Metric(
            unavoidable, "logit", rows.size, conditions={"runtime": f"torch {self._dtype}"}
        )
        return found.metrics(prefix, under) | {f"{prefix}.rounding_error": own}

    @property
    def _dtype(self) -> str:
        return str(self.exported.artifacts[self.variant].facts["dtype"])

    def _tolerance(self, model: PreTrainedModel, rows: Tokens) -> tuple[float, float]:
        """PyTorch's own error in the artifact's dtype, and the limit that follows from it."""
        recipe = self.context.recipe.parity
        with computing_in(model, device=self.device) as here:
            own = rounding_error(here, rows, getattr(torch, self._dtype))
        return own, max(recipe.tolerance, recipe.rounding * own)

    def _compare(
        self, model: PreTrainedModel, artifact: Artifact, rows: Tokens, steps: int
    ) -> parity.Parity:
        shapes = _shapes(artifact)
        longest = max(rows.shape[1], *(one.length + parity.SHAPE_STEPS for one in shapes), 0)
        with ExitStack() as stack:
            exact = stack.enter_context(computing_in(model, torch.float64, self.device))
            reference = stack.enter_context(TorchRunner(exact, threads=None))
            candidate = stack.enter_context(self.opener(artifact, capacity=longest))
            return parity.compare(reference, candidate, rows, steps=steps, shapes=shapes)

    def _first_wrong(self, model: PreTrainedModel, rows: Tokens) -> str:
        """Which layer makes it wrong, as words for the message."""
        layer = first_wrong_layer(
            len(self.models.family.block_list(model)), lambda count: self._wrong(model, rows, count)
        )
        if layer is None:
            return "exported once more it agrees, so making it is not repeatable"
        if layer == 0:
            return "the first layer is wrong already, or what stands around the layers"
        return f"the first layer that differs is `{self.models.family.blocks}.{layer}`"

    def _wrong(self, model: PreTrainedModel, rows: Tokens, layers: int) -> bool:
        """Whether the model cut after this many layers is wrong on this target."""
        rows = rows[:, : rows.shape[1] - self.context.recipe.parity.steps + BISECT_STEPS]
        with cut(model, self.models.family, layers) as part, TemporaryDirectory() as folder:
            decoder = self.models.family.decoder(part)
            target = self.exported.target
            artifact = target.exporter.export(decoder, Path(folder), target.settings)
            _, tolerance = self._tolerance(part, rows)
            found = self._compare(part, artifact, rows, BISECT_STEPS)
        return not found.finite or found.max_abs_error > tolerance


def _shapes(artifact: Artifact) -> list[parity.Shape]:
    """Prompt shapes that an engine was compiled for: fact `prefill_shapes`, name to batch, length."""
    stated: Mapping[str, list[int]] = artifact.facts.get("prefill_shapes", {})
    return [parity.Shape(f"profile {name}", *shape) for name, shape in stated.items()]
