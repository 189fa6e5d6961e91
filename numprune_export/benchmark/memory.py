"""Peak memory of dense and pruned artifacts, each alone in a fresh process."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numprune_export.errors import NumpruneError
from numprune_export.metric import Metric, Metrics


def measure_memory(
    target: str,
    folders: Mapping[str, Path],
    *,
    threads: int,
    batch: int,
    prompt_tokens: int,
    decode_steps: int,
) -> Metrics:
    """Load and run each artifact in a process of its own that has no PyTorch in it.

    Args:
        target: Name of the exporter that made the artifacts.
        folders: Variant, `dense` or `pruned`, to its artifact folder.

    Returns:
        `memory.<target>.<variant>.peak_bytes`: the whole process, interpreter and runtime
        included. `.model_bytes`: above what the process held before the model was loaded.

    Raises:
        NumpruneError: an artifact could not be loaded or run.
    """
    options = {
        "threads": threads,
        "batch": batch,
        "prompt-tokens": prompt_tokens,
        "decode-steps": decode_steps,
    }
    conditions: dict[str, Any] = {key.replace("-", "_"): one for key, one in options.items()}
    conditions |= {"device": "cpu", "measure": "peak resident set of a fresh process"}
    found: Metrics = {}
    for variant, folder in folders.items():
        seen = _run(target, folder, options)
        name = f"memory.{target}.{variant}"
        peak, model = seen["peak_bytes"], seen["peak_bytes"] - seen["baseline_bytes"]
        found[f"{name}.peak_bytes"] = Metric(peak, "bytes", 1, conditions=conditions)
        found[f"{name}.model_bytes"] = Metric(model, "bytes", 1, conditions=conditions)
    return found


def _run(target: str, folder: Path, options: Mapping[str, int]) -> dict[str, Any]:
    command = [sys.executable, "-m", "numprune_export.benchmark.memory_probe", target, str(folder)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip() or "no message").splitlines()[-1]
        raise NumpruneError(
            f"measuring the memory of `{folder}` failed: {reason} (exit {result.returncode})",
            hint="export the model again, or give the process more memory",
        )
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found
