"""Peak memory of dense and pruned artifacts, each measured in a fresh process."""

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
    """Load and run each artifact in its own process, without PyTorch.

    Args:
        target: Name of the exporter that wrote the artifacts.
        folders: Artifact folder by variant, `dense` or `pruned`.

    Returns:
        `memory.<target>.<variant>.peak_bytes`: of the whole process, interpreter and runtime
        included. `.model_bytes`: the increase since before the model was loaded.
        On a GPU also `.device_bytes`: the device memory added by loading and running. It comprises
        `.weights_bytes`, `.activations_bytes` and `.kv_cache_bytes`, as the runner reports them.

    Raises:
        NumpruneError: an artifact could not be loaded or run.
    """
    options = {
        "threads": threads,
        "batch": batch,
        "prompt-tokens": prompt_tokens,
        "decode-steps": decode_steps,
    }
    conditions: dict[str, Any] = {key.replace("-", "_"): value for key, value in options.items()}
    metrics: Metrics = {}
    for variant, folder in folders.items():
        probed = _run(target, folder, options)
        name = f"memory.{target}.{variant}"
        conditions["device"] = probed["device"]
        host = conditions | {"measure": "peak resident set of a fresh process"}
        peak, model = probed["peak_bytes"], probed["peak_bytes"] - probed["baseline_bytes"]
        metrics[f"{name}.peak_bytes"] = Metric(peak, "bytes", 1, conditions=host)
        metrics[f"{name}.model_bytes"] = Metric(model, "bytes", 1, conditions=host)
        for part, size in device_parts(probed).items():
            reported = part in probed["held"]
            measure = "as the runner accounts for it" if reported else _ON_DEVICE[part]
            under = conditions | {"measure": measure}
            metrics[f"{name}.{part}_bytes"] = Metric(size, "bytes", 1, conditions=under)
    return metrics


def device_parts(probed: Mapping[str, Any]) -> dict[str, int]:
    """GPU memory of a probe: `device`, `weights`, `activations`, `kv_cache`; empty on a CPU.

    If a runtime does not report its activations, they are the rest of `device`.

    >>> probed = {"device_baseline_bytes": 400, "device_run_bytes": 1000}
    >>> device_parts(probed | {"held": {"weights": 500, "kv_cache": 60}})
    {'device': 600, 'weights': 500, 'activations': 40, 'kv_cache': 60}
    """
    if "device_run_bytes" not in probed:
        return {}
    device = probed["device_run_bytes"] - probed["device_baseline_bytes"]
    held = dict(probed["held"])
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
    probed: dict[str, Any] = json.loads(ended.lines[-1])
    return probed
