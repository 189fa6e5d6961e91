"""Package a finished run for an inference server; the output folder is written atomically."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numprune_export.core.disk_space import full_disk_named
from numprune_export.core.errors import InputError, OutputError, RecipeError
from numprune_export.core.json_text import loads
from numprune_export.core.run_folder import ARTIFACTS, MODEL, REPORT, finished
from numprune_export.export import servers
from numprune_export.export.artifact import Artifact


def package(
    run: Path, out: Path, *, server: str, target: str, variant: str, settings: Mapping[str, Any]
) -> None:
    """Package one exported model of a run.

    Args:
        run: The folder of a finished run.
        out: A folder that does not exist yet, or an empty one.
        server: Name of the inference server.
        target: Export target of the artifact, for example `onnx`.
        variant: `dense` or `pruned`.
        settings: Settings of the server's schema.

    Raises:
        RecipeError: an unknown server, target, variant or setting.
        InputError: `run` is not a finished run, or a file in it is missing or changed.
        OutputError: `out` is not empty or not writable, or the run is in progress.
        UnsupportedModelError: the server cannot serve this artifact.
    """
    packager = servers.find(server)
    chosen = servers.settings_for(packager, settings)
    with finished(run):
        artifact = _artifact(run, target, variant)
        with _whole(out) as partial:
            packager.package(artifact, run / MODEL, partial, chosen)


def _artifact(run: Path, target: str, variant: str) -> Artifact:
    """Load the artifact, and check that its hashes match the run's report."""
    reported = _reported_files(run / REPORT)
    name = f"{target}.{variant}"
    if name not in reported:
        raise RecipeError(
            f"`{run}` has no artifact of target `{target}` and variant `{variant}`",
            hint=f"it has: {', '.join(sorted(reported))} (`--target`, `--variant`)",
        )
    artifact = Artifact.load(run / ARTIFACTS / target / variant)
    if dict(artifact.files) != reported[name]:
        raise InputError(
            f"`{artifact.folder}` is newer than the report of `{run}`",
            hint="run the recipe again: it resumes where it stopped",
        )
    return artifact


def _reported_files(report: Path) -> dict[str, Any]:
    """The files of each artifact in a report, by artifact."""
    try:
        artifacts = loads(report.read_text(encoding="utf-8"))["artifacts"]
        return {name: reported["files"] for name, reported in artifacts.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the artifacts in the report `{report}`: {error!r}",
            hint="run the recipe again",
        ) from None


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Context manager: a folder next to `out`, renamed to `out` on success, else removed."""
    place = out.absolute()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise OutputError(f"`{out}` is not an empty folder", hint="choose another `--out`")
    created = [parent for parent in place.parents if not parent.exists()]
    partial = place.with_name(f".{place.name}.partial")
    with full_disk_named(out):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            raise OutputError(
                f"cannot write to `{out}`: {error.strerror}", hint="choose another `--out`"
            ) from None
        try:
            yield partial
            if place.exists():
                place.rmdir()
            partial.rename(place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            with contextlib.suppress(OSError):
                for folder in created:
                    folder.rmdir()
            raise
