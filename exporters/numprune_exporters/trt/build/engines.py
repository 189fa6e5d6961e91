"""Write, parse, check and build one graph, `repeat_builds` times."""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import OutputError, RecipeError, UnsupportedModelError
from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs import file as graph_file
from numprune_exporters.graphs.slot import graph as slot_graph
from numprune_exporters.graphs.slot.graph import SlotGraph
from numprune_exporters.trt import placement
from numprune_exporters.trt.build import precision
from numprune_exporters.trt.build.builder import build
from numprune_exporters.trt.build.inspector import inspect
from numprune_exporters.trt.build.network import Refused, parse
from numprune_exporters.trt.profiles import Profiles
from numprune_exporters.trt.settings import EngineSettings, TrtSettings
from numprune_exporters.trt.toolkit import Toolkit

GRAPH_FOLDER = "graph"
LAYERS = "layers.json"


@dataclass(frozen=True)
class Made:
    """The engines of one graph."""

    graph: SlotGraph
    builds: tuple[str, ...]
    """Engine files in the artifact's folder; the first one is run and served."""
    seconds: tuple[float, ...]
    """Time of each build."""
    checked: str
    """Dtypes checked in: `engine`, or `network` if no GPU here can load the engine."""
    census: dict[str, dict[str, int]]
    """Layers of the network: kind to output type to count."""
    written: dict[str, Any]
    """Facts of the graph from `graph_file.write`."""
    built_for: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        return {
            "graph": self.graph,
            "builds": list(self.builds),
            "build_seconds": [round(seconds, 2) for seconds in self.seconds],
            "precision": {"checked": self.checked, "network": self.census},
            "built_for": self.built_for,
            **self.written,
        }


def make_engines(
    kit: Toolkit,
    decoder: Decoder,
    folder: Path,
    settings: EngineSettings,
    profiles: Profiles,
    graph: SlotGraph,
) -> Made:
    """Write `graph/` and the engines into `folder`.

    Raises:
        Refused: this graph cannot be parsed or built; another graph may work.
        NumpruneError: see Exporter.export.
    """
    place = placement.of(kit, settings)
    written = _write_graph(decoder, folder / GRAPH_FOLDER, settings, graph)
    parsed = parse(kit, folder / GRAPH_FOLDER / graph_file.ENTRY)
    with _dtypes_refused():
        census = precision.check_network(parsed.network, settings.dtype)
    names, seconds = [], []
    for number in range(settings.repeat_builds):
        names.append(f"engine.{number}.plan" if number else "engine.plan")
        # Later builds time their kernels again: they measure the variance of rebuilds.
        cache = None if number else timing_cache_path(kit.target, folder, settings)
        started = time.perf_counter()
        build(kit, parsed, settings, profiles, written["inputs"], folder / names[-1], cache)
        seconds.append(time.perf_counter() - started)
    del parsed  # frees the parser's weights before the engine is loaded
    with _dtypes_refused():
        checked = _checked_in(kit, folder, names[0], settings, place)
    return Made(graph, tuple(names), tuple(seconds), checked, census, written, place.built_for)


@contextmanager
def _dtypes_refused() -> Iterator[None]:
    """Convert a wrong dtype to Refused: another graph may give layers of other types."""
    try:
        yield
    except UnsupportedModelError as error:
        raise Refused("check of dtypes", str(error)) from None


def _write_graph(
    decoder: Decoder, folder: Path, settings: EngineSettings, graph: SlotGraph
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    metadata = {"graph": graph, "max_positions": str(decoder.max_positions)}
    return graph_file.write(slot_graph.build(decoder, metadata, settings.dtype, graph), folder)


def timing_cache_path(target: str, folder: Path, settings: EngineSettings) -> Path | None:
    """Path of the timing cache for builds into `folder`; both variants of a run share it.

    Raises:
        RecipeError: a relative path leaves the run folder.
    """
    if not isinstance(settings, TrtSettings) or settings.timing_cache is None:
        return None
    path = Path(settings.timing_cache)
    if not path.is_absolute() and ".." in path.parts:
        raise RecipeError(
            f"`targets.{target}.timing_cache`: `{path}` leaves the run folder",
            hint="give a name inside it, or an absolute path",
        )
    return folder.parent / path


def _checked_in(
    kit: Toolkit, folder: Path, engine: str, settings: EngineSettings, place: placement.Placement
) -> str:
    """Check the engine's dtypes if a GPU can load it, and write its inspector's report."""
    if place.cannot_load is not None or settings.stripped:
        return "network"
    with (
        (folder / engine).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan,
    ):
        report = inspect(kit, plan, settings.dtype)
    try:
        (folder / LAYERS).write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise OutputError(
            f"cannot write `{folder / LAYERS}`: {error.strerror or error}",
            hint="if the disk is full, free some space and run the same command again: it resumes",
        ) from None
    return "engine"
