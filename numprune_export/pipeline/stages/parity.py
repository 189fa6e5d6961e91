"""Parity of artifacts, and of the graphs behind engines, with PyTorch.

For an engine compiled from a graph, the graph is compared as well, to attribute an error to the
export or to the compiler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from numprune_export.core import allocator
from numprune_export.core.disk_space import temporary_folder
from numprune_export.core.errors import ParityError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import GraphBacked
from numprune_export.measure.parity import decoder as decoder_parity
from numprune_export.measure.parity.bisect import cut, first_wrong_layer
from numprune_export.measure.reference.precision import computing_in
from numprune_export.pipeline.exported import Exported, facts_of
from numprune_export.pipeline.kinds.kind import Comparison, ModelKind, Opener
from numprune_export.pipeline.models import Models, Variant
from numprune_export.recipe import Parity as Limits


def agree(
    limits: Limits,
    kind: ModelKind,
    models: Models,
    exported: Exported,
    variant: Variant,
    device: torch.device,
) -> Metrics:
    """Compare the graph and the artifact of one variant of a target, if they can run here.

    Raises:
        ParityError: one of them disagrees with PyTorch; the message names the first wrong layer.
    """
    metrics: Metrics = {}
    missing = unchecked(exported)
    for name, opener in kind.openers(exported).items():
        if name not in missing:
            allocator.release()
            check = _Check(limits, kind, models, exported, variant, name, opener, device)
            metrics |= check.metrics()
    return metrics


def unchecked(exported: Exported) -> dict[str, str]:
    """Why a graph or artifact cannot be compared here, by its name in the report."""
    target, reasons = exported.target, {}
    if isinstance(target.exporter, GraphBacked):
        reason = target.exporter.graph_cannot_run(exported.artifacts["pruned"])
        if reason is not None:
            reasons[f"{target.name}-graph"] = reason
    if target.cannot_run is not None:
        reasons[target.name] = target.cannot_run
    return reasons


@dataclass(frozen=True)
class _Check:
    """Comparison of one variant of one target with one opener."""

    limits: Limits
    kind: ModelKind
    models: Models
    exported: Exported
    variant: Variant
    name: str
    opener: Opener
    device: torch.device

    def metrics(self) -> Metrics:
        """`parity.<name>[.dense].*`; raises ParityError above the recipe's limits."""
        model = self.models.reference(self.variant)
        rounding_error, tolerance = self._tolerance(model)
        comparison = self._compare(model, self.exported.artifacts[self.variant])
        try:
            decoder_parity.check(comparison, tolerance, name=f"{self.name}/{self.variant}")
        except ParityError as error:
            if not self.limits.bisect:
                raise
            whole = self.models.get(self.variant)
            raise ParityError(f"{error}; {self._first_wrong(whole)}", hint=error.hint) from None
        prefix = f"parity.{self.name}" + ("" if self.variant == "pruned" else ".dense")
        under = {**facts_of(self.exported), "reference": "torch float64", "tolerance": tolerance}
        own = Metric(
            rounding_error,
            "logit",
            comparison.compared,
            conditions={"runtime": f"torch {self._dtype}"},
        )
        return comparison.metrics(prefix, under) | {f"{prefix}.rounding_error": own}

    @property
    def _dtype(self) -> str:
        return str(self.exported.artifacts[self.variant].facts["dtype"])

    def _tolerance(self, model: PreTrainedModel) -> tuple[float, float]:
        """PyTorch's own error in the artifact's dtype, and the tolerance derived from it."""
        with computing_in(model, device=self.device) as placed:
            own = self.kind.rounding_error(placed, self._dtype, self.variant)
        return own, max(self.limits.tolerance, self.limits.rounding * own)

    def _compare(self, model: PreTrainedModel, artifact: Artifact) -> Comparison:
        with computing_in(model, torch.float64, self.device) as exact:
            return self.kind.compare(exact, self.opener, artifact, self.variant)

    def _first_wrong(self, model: PreTrainedModel) -> str:
        """The first wrong layer, as text for the error message."""
        family = self.models.family
        layer = first_wrong_layer(
            len(family.block_list(model)), lambda count: self._wrong(model, count)
        )
        if layer is None:
            return "a second export agrees, so the export is not reproducible"
        if layer == 0:
            return "the first layer is wrong, or the embedding or head around the layers"
        return f"the first layer that differs is `{family.blocks}.{layer}`"

    def _wrong(self, model: PreTrainedModel, layers: int) -> bool:
        """Whether the model with its first `layers` layers is wrong on this target."""
        target = self.exported.target
        with cut(model, self.models.family, layers) as part, temporary_folder() as temporary:
            # A nested folder: some targets write a cache beside their artifact.
            folder = temporary / self.variant
            folder.mkdir()
            artifact = self.kind.export(target.exporter, part, folder, target.settings)
            _, tolerance = self._tolerance(part)
            comparison = self._compare(part, artifact)
        return not comparison.finite or comparison.max_abs_error > tolerance
