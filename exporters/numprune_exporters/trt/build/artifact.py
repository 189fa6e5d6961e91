"""Export an artifact: build engines of the first graph that works, and write the index."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from numprune_export.core.errors import MissingExtraError, UnsupportedModelError
from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs.activations import refuse_activation
from numprune_exporters.graphs.slot.graph import SlotGraph
from numprune_exporters.trt.build.engines import GRAPH_FOLDER, LAYERS, Made, make_engines
from numprune_exporters.trt.build.network import Refused
from numprune_exporters.trt.profiles import Profiles
from numprune_exporters.trt.settings import EngineSettings, profiles
from numprune_exporters.trt.toolkit import Toolkit

Attempt = dict[str, str]
"""One attempted graph: `graph`, `outcome`, `reason`."""

_STATED_ELSEWHERE = {"graph", "prefill", "decode", "repeat_builds", "keep_graph"}
_AFTER_A_PROMPT = 2
"""Decode steps that follow a prompt when it is compared with PyTorch."""


def make(kit: Toolkit, decoder: Decoder, folder: Path, settings: EngineSettings) -> Artifact:
    """See Exporter.export."""
    refuse_activation(decoder.activation)
    _refuse_loose_types(kit, settings)
    shapes = profiles(decoder, settings, kit.target)
    built, choice = _first_that_builds(kit, decoder, folder, settings, shapes)
    if not settings.keep_graph:
        shutil.rmtree(folder / GRAPH_FOLDER)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    artifact = Artifact(
        kit.target,
        folder,
        built.builds[0],
        {name: sha256_of(folder / name) for name in names},
        facts=_facts(kit, decoder, settings, shapes) | {"graph_choice": choice} | built.facts(),
        evidence=tuple(name for name in names if _is_evidence(name, built, settings)),
    )
    artifact.save()
    return artifact


def _refuse_loose_types(kit: Toolkit, settings: EngineSettings) -> None:
    if not kit.strongly_typed and settings.dtype != "float32":
        raise MissingExtraError(
            f"{kit.title} has no strongly typed networks and cannot guarantee `{settings.dtype}`",
            hint="install TensorRT 10 or newer, or export with dtype: float32",
        )


def _first_that_builds(
    kit: Toolkit, decoder: Decoder, folder: Path, settings: EngineSettings, shapes: Profiles
) -> tuple[Made, list[Attempt]]:
    attempts: list[Attempt] = []
    for graph in _candidates(settings):
        try:
            built = make_engines(kit, decoder, folder, settings, shapes, graph)
        except Refused as refused:
            outcome = f"refused by the {refused.step}"
            attempts.append({"graph": graph, "outcome": outcome, "reason": str(refused)})
        else:
            attempts.append({"graph": graph, "outcome": "built", "reason": ""})
            return built, attempts
    first, *others = attempts
    also = "".join(f"; graph `{other['graph']}`: {other['reason']}" for other in others)
    raise UnsupportedModelError(
        f"{kit.title} builds no `{settings.dtype}` engine of `{decoder.name}`,"
        f" {first['outcome']} with graph `{first['graph']}`: {first['reason']}{also}",
        hint="export with another `dtype`, `graph` or GPU, or with another version of the toolkit",
    )


def _candidates(settings: EngineSettings) -> tuple[SlotGraph, ...]:
    return ("fused", "decomposed") if settings.graph == "auto" else (settings.graph,)


def _facts(
    kit: Toolkit, decoder: Decoder, settings: EngineSettings, shapes: Profiles
) -> dict[str, Any]:
    return {
        "dtype": settings.dtype,
        "max_positions": decoder.max_positions,
        "runtime": kit.title,
        "toolkit": {"module": kit.module.__name__, "version": kit.version},
        "profiles": shapes.facts(),
        "prefill_shapes": shapes.prefill_shapes(_AFTER_A_PROMPT),
        **settings.model_dump(mode="json", exclude=_STATED_ELSEWHERE),
    }


def _is_evidence(name: str, built: Made, settings: EngineSettings) -> bool:
    """Whether running needs no such file. A stripped engine reads its weights from the graph."""
    if name.startswith(f"{GRAPH_FOLDER}/"):
        return not settings.stripped
    return name == LAYERS or name in built.builds[1:]
