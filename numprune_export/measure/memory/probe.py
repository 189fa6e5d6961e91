"""Measures the memory of one artifact in a fresh process, which `peak.py` starts.

    python -m numprune_export.measure.memory.probe TARGET FOLDER [options]

Writes one line of JSON to standard output. Imports neither torch nor transformers, so that the
measurement covers only the serving runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from numprune_export.core.errors import MissingExtraError, NumpruneError, RecipeError
from numprune_export.core.plugins import registered
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import AccountsMemory, DecoderRunner, EncoderRunner
from numprune_export.measure.memory.resident import current_bytes, peak_bytes, used_bytes

GROUP = "numprune_export.exporters"


def probe(
    target: str, folder: Path, *, threads: int, batch: int, prompt_tokens: int, decode_steps: int
) -> dict[str, object]:
    """Load the artifact, run one prefill and some decode steps, and read the peak.

    All tokens are 0: token values do not change the allocations.

    Returns:
        `device`, and of this process `baseline_bytes`, `loaded_bytes` and `peak_bytes`. `held`: the
        device memory that the runner reports. On a GPU also `device_baseline_bytes`,
        `device_loaded_bytes` and `device_run_bytes` (after the run); the baseline includes the CUDA
        context.

    Raises:
        RecipeError: no installed exporter has this name.
        MissingExtraError: the runtime is unavailable here.
        DeviceError: there is no GPU, or its memory is too small.
    """
    exporter = _exporter(target)
    ready = exporter.availability()  # loads the runtime before the baseline is read
    if not ready.ready:
        raise MissingExtraError(
            f"target `{target}` cannot run here: {ready.detail}",
            hint=ready.install or "see `numprune-export doctor`",
        )
    artifact = Artifact.load(folder)
    on_device = _used if exporter.device == "cuda" else _nothing
    result: dict[str, object] = {"device": exporter.device, **on_device("baseline")}
    result["baseline_bytes"] = current_bytes()
    tokens = np.zeros((batch, prompt_tokens), np.int64)
    longest = prompt_tokens + decode_steps
    with exporter.open(artifact, threads=threads, capacity=longest) as runner:
        result |= {"loaded_bytes": current_bytes(), **on_device("loaded")}
        if isinstance(runner, EncoderRunner):
            runner.forward(tokens)
        else:
            runner.prefill(tokens)
            for _ in range(decode_steps):
                runner.decode(tokens[:, 0])
        result |= {"peak_bytes": peak_bytes(), **on_device("run"), "held": _held(runner)}
    result["heavy_imports"] = sorted({"torch", "transformers"} & sys.modules.keys())
    return result


def _used(moment: str) -> dict[str, int]:
    return {f"device_{moment}_bytes": used_bytes()}


def _nothing(moment: str) -> dict[str, int]:
    return {}


def _held(runner: DecoderRunner | EncoderRunner) -> dict[str, int]:
    return dict(runner.device_memory()) if isinstance(runner, AccountsMemory) else {}


def _exporter(target: str) -> Exporter:
    exporters = registered(GROUP)
    if target not in exporters:
        raise RecipeError(
            f"unknown export target `{target}`",
            hint=f"installed targets: {', '.join(sorted(exporters)) or 'none'}",
        )
    exporter: Exporter = exporters[target].load()()
    return exporter


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    for name in ("threads", "batch", "prompt-tokens", "decode-steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    try:
        result = probe(**vars(parser.parse_args()))
    except NumpruneError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
