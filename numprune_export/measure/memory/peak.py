"""Peak memory of dense and pruned artifacts, each alone in a fresh process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numprune_export.core.errors import NumpruneError
from numprune_export.core.fresh_process import run_module
from numprune_export.core.metric import Metric, Metrics

_PARTS = ("weights", "activations", "kv_cache")
_ON_DEVICE = {
    "device": "memory in use on the GPU, after running less before loading, in a fresh process",
    "activations": "what weights and KV cache leave of the device memory, kernels included",
}


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
        On a GPU also `.device_bytes`: what loading and running added on the device, of which
        `.weights_bytes`, `.activations_bytes` and `.kv_cache_bytes` are the runner's own account.

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
    found: Metrics = {}
    for variant, folder in folders.items():
        seen = _run(target, folder, options)
        name = f"memory.{target}.{variant}"
        conditions["device"] = seen["device"]
        host = conditions | {"measure": "peak resident set of a fresh process"}
        peak, model = seen["peak_bytes"], seen["peak_bytes"] - seen["baseline_bytes"]
        found[f"{name}.peak_bytes"] = Metric(peak, "bytes", 1, conditions=host)
        found[f"{name}.model_bytes"] = Metric(model, "bytes", 1, conditions=host)
        for part, size in device_parts(seen).items():
            measure = "as the runner accounts for it" if part in seen["held"] else _ON_DEVICE[part]
            told = conditions | {"measure": measure}
            found[f"{name}.{part}_bytes"] = Metric(size, "bytes", 1, conditions=told)
    return found


def device_parts(seen: Mapping[str, Any]) -> dict[str, int]:
    """A probe's account of the GPU: `device`, `weights`, `activations`, `kv_cache`; empty on a CPU.

    Where a runtime does not tell its activations, they are what the others leave of `device`.

    >>> seen = {"device_baseline_bytes": 400, "device_run_bytes": 1000}
    >>> device_parts(seen | {"held": {"weights": 500, "kv_cache": 60}})
    {'device': 600, 'weights': 500, 'activations': 40, 'kv_cache': 60}
    """
    if "device_run_bytes" not in seen:
        return {}
    device, held = seen["device_run_bytes"] - seen["device_baseline_bytes"], dict(seen["held"])
    if held and "activations" not in held:
        held["activations"] = max(device - sum(held.values()), 0)
    return {"device": device, **{part: held[part] for part in _PARTS if part in held}}


def _run(target: str, folder: Path, options: Mapping[str, int]) -> dict[str, Any]:
    arguments = [target, str(folder)]
    for key, value in options.items():
        arguments += [f"--{key}", str(value)]
    ended = run_module("numprune_export.measure.memory.probe", arguments)
    if ended.code != 0:
        raise NumpruneError(
            f"measuring the memory of `{folder}` failed: {ended.reason} (exit {ended.code})",
            hint="export the model again, or give the process more memory",
        )
    found: dict[str, Any] = json.loads(ended.lines[-1])
    return found
