"""One artifact's memory, in the process it alone lives in; `memory.py` starts it.

    python -m numprune_export.benchmark.memory_probe TARGET FOLDER [options]

Writes one line of JSON to standard output. Imports neither torch nor transformers, so that what
is measured is the runtime that would serve the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from numprune_export.artifact import Artifact, Exporter
from numprune_export.benchmark.resident import current_bytes, peak_bytes
from numprune_export.errors import MissingExtraError, NumpruneError, RecipeError

GROUP = "numprune_export.exporters"


def probe(
    target: str, folder: Path, *, threads: int, batch: int, prompt_tokens: int, decode_steps: int
) -> dict[str, object]:
    """Load the artifact, run one prefill and some decode steps, and read the peak.

    Token 0 stands for every token: what is computed does not change what is allocated.

    Raises:
        RecipeError: no installed exporter has this name.
        MissingExtraError: its runtime cannot run here.
    """
    exporter = _exporter(target)
    ready = exporter.availability()  # loads the runtime, which is not the model's memory
    if not ready.ready:
        raise MissingExtraError(
            f"target `{target}` cannot run here: {ready.detail}",
            hint=ready.install or "see `numprune-export doctor`",
        )
    artifact = Artifact.load(folder)
    baseline = current_bytes()
    capacity = prompt_tokens + decode_steps
    with exporter.open(artifact, threads=threads, capacity=capacity) as runner:
        loaded = current_bytes()
        runner.prefill(np.zeros((batch, prompt_tokens), np.int64))
        for _ in range(decode_steps):
            runner.decode(np.zeros(batch, np.int64))
        peak = peak_bytes()
    return {
        "baseline_bytes": baseline,
        "loaded_bytes": loaded,
        "peak_bytes": peak,
        "heavy_imports": sorted({"torch", "transformers"} & sys.modules.keys()),
    }


def _exporter(target: str) -> Exporter:
    found = entry_points(group=GROUP)
    if target not in found.names:
        raise RecipeError(
            f"unknown export target `{target}`",
            hint=f"installed targets: {', '.join(sorted(found.names)) or 'none'}",
        )
    exporter: Exporter = found[target].load()()
    return exporter


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    for name in ("threads", "batch", "prompt-tokens", "decode-steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    try:
        found = probe(**vars(parser.parse_args()))
    except NumpruneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
