"""Whether what was exported is the model: PyTorch against the graph, PyTorch against the artifact.

Where an engine was compiled from a graph, the graph is compared too, so that an error is the export's
or the compiler's, and never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from numprune_export.core import allocator
from numprune_export.core.errors import ParityError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.run_folder import temporary_folder
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import GraphBacked
from numprune_export.export.runner import Device
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
    device: Device,
) -> Metrics:
    """Compare one variant of a target, as graph and as artifact, as far as they can run here.

    Raises:
        ParityError: one disagrees with PyTorch; the message names the first wrong layer.
    """
    found: Metrics = {}
    missing = unchecked(exported)
    for name, opener in kind.openers(exported).items():
        if name not in missing:
            allocator.release()
            check = _Check(limits, kind, models, exported, variant, name, opener, device)
            found |= check.metrics()
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


@dataclass(frozen=True)
class _Check:
    """One variant of one target, opened in one way."""

    limits: Limits
    kind: ModelKind
    models: Models
    exported: Exported
    variant: Variant
    name: str
    opener: Opener
    device: Device

    def metrics(self) -> Metrics:
        """`parity.<name>[.dense].*`; fails where the recipe says that an error is too large."""
        model = self.models.get(self.variant)
        unavoidable, tolerance = self._tolerance(model)
        found = self._compare(model, self.exported.artifacts[self.variant])
        try:
            decoder_parity.check(found, tolerance, name=f"{self.name}/{self.variant}")
        except ParityError as error:
            if not self.limits.bisect:
                raise
            raise ParityError(f"{error}; {self._first_wrong(model)}", hint=error.hint) from None
        prefix = f"parity.{self.name}" + ("" if self.variant == "pruned" else ".dense")
        under = {**facts_of(self.exported), "reference": "torch float64", "tolerance": tolerance}
        own = Metric(
            unavoidable, "logit", found.compared, conditions={"runtime": f"torch {self._dtype}"}
        )
        return found.metrics(prefix, under) | {f"{prefix}.rounding_error": own}

    @property
    def _dtype(self) -> str:
        return str(self.exported.artifacts[self.variant].facts["dtype"])

    def _tolerance(self, model: PreTrainedModel) -> tuple[float, float]:
        """PyTorch's own error in the artifact's dtype, and the limit that follows from it."""
        with computing_in(model, device=self.device) as here:
            own = self.kind.rounding_error(here, self._dtype, self.variant)
        return own, max(self.limits.tolerance, self.limits.rounding * own)

    def _compare(self, model: PreTrainedModel, artifact: Artifact) -> Comparison:
        with computing_in(model, torch.float64, self.device) as exact:
            return self.kind.compare(exact, self.opener, artifact, self.variant)

    def _first_wrong(self, model: PreTrainedModel) -> str:
        """Which layer makes it wrong, as words for the message."""
        family = self.models.family
        layer = first_wrong_layer(
            len(family.block_list(model)), lambda count: self._wrong(model, count)
        )
        if layer is None:
            return "exported once more it agrees, so making it is not repeatable"
        if layer == 0:
            return "the first layer is wrong already, or what stands around the layers"
        return f"the first layer that differs is `{family.blocks}.{layer}`"

    def _wrong(self, model: PreTrainedModel, layers: int) -> bool:
        """Whether the model cut after this many layers is wrong on this target."""
        target = self.exported.target
        with cut(model, self.models.family, layers) as part, temporary_folder() as temporary:
            # A folder in it: some targets keep a cache beside their artifact.
            folder = temporary / self.variant
            folder.mkdir()
            artifact = self.kind.export(target.exporter, part, folder, target.settings)
            _, tolerance = self._tolerance(part)
            found = self._compare(part, artifact)
        return not found.finite or found.max_abs_error > tolerance
