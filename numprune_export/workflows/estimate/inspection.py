"""What of a model can go: its sites, widths and parameters, from the shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import Source, resolve
from numprune_export.models.families import DECODERS, architecture_of
from numprune_export.models.site import Kind, Site
from numprune_export.pruning.rewrite import parameter_count

KINDS: tuple[Kind, ...] = ("attention", "mlp")
DECODER_UNITS = {"attention": "KV head with its query heads", "mlp": "channel"}
ENCODER_UNITS = {"attention": "head", "mlp": "neuron"}


@dataclass(frozen=True)
class Inspection:
    """A model before anything is done to it."""

    source: Source
    sites: tuple[Site, ...]
    parameters: int
    """Of the whole model, tied ones once."""

    blocks: int

    @property
    def architecture(self) -> str:
        """The class of transformers."""
        return architecture_of(self.source.family, self.source.architectures)

    @property
    def emptied(self) -> list[tuple[int, Kind]]:
        """Sublayers that an earlier pruning has taken all units from."""
        here = {(site.block, site.kind) for site in self.sites}
        return [
            (block, kind)
            for kind in KINDS
            for block in range(self.blocks)
            if (block, kind) not in here
        ]

    @property
    def prunable(self) -> int:
        return sum(site.parameters for site in self.sites)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.source.reference,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "prunable_parameters": self.prunable,
            "sites": [
                {"name": one.name, "units": one.units, "parameters_per_unit": one.unit_cost}
                for one in self.sites
            ],
            "emptied": [f"layers.{block}.{kind}" for block, kind in self.emptied],
        }


def look(reference: str, *, revision: str | None, search: Sequence[Path]) -> Inspection:
    """Resolve a model and read its shapes; no weights are read.

    Raises:
        NumpruneError: as `checkpoint.source.resolve` and `checkpoint.load.skeleton`.
    """
    source = resolve(reference, revision=revision, search=search)
    # Not above: PyTorch comes with them, and a wrong reference is answered without it.

    model = skeleton(source)
    family = source.family
    blocks = len(family.block_list(model))
    return Inspection(source, family.sites(model), parameter_count(model), blocks)


def render(found: Inspection) -> str:
    """A table for people: one line per run of equal blocks."""
    share = found.prunable / found.parameters
    lines = [
        f"{found.source.reference}: {found.architecture}",
        f"{found.parameters / 1e6:.1f} M parameters, {found.prunable / 1e6:.1f} M prunable ({share:.0%})",
        "",
        f"{'layers':12} {'site':10} {'units':>6} {'parameters/unit':>16}  unit",
    ]
    decoder = found.source.model_type in DECODERS
    meaning = DECODER_UNITS if decoder else ENCODER_UNITS
    for first, last, site in _runs(found.sites):
        layers = f"{first}" if first == last else f"{first}-{last}"
        lines.append(
            f"{layers:12} {site.kind:10} {site.units:6} {site.unit_cost:16,}  {meaning[site.kind]}"
        )
    lines += [f"{block:<12} {kind:10} {0:6} {0:16}  none left" for block, kind in found.emptied]
    return "\n".join(lines)


def _runs(sites: Sequence[Site]) -> list[tuple[int, int, Site]]:
    """Neighbouring blocks whose site of one kind is equal, as (first, last, site)."""
    runs: list[tuple[int, int, Site]] = []
    for kind in KINDS:
        for site in (one for one in sites if one.kind == kind):
            same = runs and runs[-1][2].kind == kind and runs[-1][1] == site.block - 1
            if same and (runs[-1][2].units, runs[-1][2].unit_cost) == (site.units, site.unit_cost):
                runs[-1] = (runs[-1][0], site.block, runs[-1][2])
            else:
                runs.append((site.block, site.block, site))
    return runs
