"""What a run came to, in one sentence made of its metrics."""

from collections.abc import Iterator, Mapping

from numprune_export.report.quantity import count, number, percent
from numprune_export.report.schema import Measurement

STAGES = ("dense", "masked", "pruned")
"""Order in which perplexities are told; exported artifacts follow."""


def summarize(metrics: Mapping[str, Measurement], not_run: Mapping[str, str]) -> str:
    """Size, speed and quality; what was not measured is said so."""
    missing = [f"{name} was built but not run here: {why}" for name, why in not_run.items()]
    parts = [_size(metrics), *_speeds(metrics), *missing, _quality(metrics)]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def targets(metrics: Mapping[str, Measurement], kind: str) -> list[str]:
    """Targets that have metrics of this kind, such as `latency`; PyTorch's own rows come last."""
    names = {name.split(".")[1] for name in metrics if name.startswith(f"{kind}.")}
    return sorted(names, key=lambda name: (is_reference(name), name))


def is_reference(name: str) -> bool:
    """Whether this is a row of PyTorch itself: `torch`, `torch-cuda`, `torch-cuda-compiled`."""
    return name.partition("-")[0] == "torch"


def perplexities(metrics: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """By stage, in the order they are told."""
    prefix = "quality.perplexity."
    names = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
    names.sort(key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))
    return {name: metrics[prefix + name] for name in names}


def speed(measurement: Measurement) -> str:
    """How a speed-up reads: only an interval that excludes 1 is called faster or slower."""
    value, low, high = measurement.value, measurement.low, measurement.high
    if low is None or high is None:
        return f"is {value:.2f}x, with no interval to judge it by"
    if low > 1:
        return f"is {value:.2f}x faster (95 % interval {low:.2f} to {high:.2f})"
    if high < 1:
        return f"is {1 / value:.2f}x slower (95 % interval {1 / high:.2f} to {1 / low:.2f})"
    return f"shows no significant speed-up ({value:.2f}x, 95 % interval {low:.2f} to {high:.2f})"


def significant(measurement: Measurement) -> bool:
    """Whether the interval of a ratio excludes 1."""
    low, high = measurement.low, measurement.high
    return low is not None and high is not None and not low <= 1 <= high


def _size(metrics: Mapping[str, Measurement]) -> str:
    dense = metrics.get("size.parameters.dense")
    pruned = metrics.get("size.parameters.pruned")
    if dense is None or pruned is None:
        return "size not measured"
    less = percent(1 - pruned.value / dense.value)
    return f"{less} fewer parameters ({count(dense.value)} to {count(pruned.value)})"


def _speeds(metrics: Mapping[str, Measurement]) -> Iterator[str]:
    timed = targets(metrics, "latency")
    exported = [name for name in timed if not is_reference(name)] or timed
    if not exported:
        yield "speed not measured"
    for target in exported:
        phases = (
            f"{phase} {speed(metrics[name])}"
            for phase in ("prefill", "decode")
            if (name := f"latency.{target}.{phase}.speedup") in metrics
        )
        yield f"on {target} {' and '.join(phases)}"


def _quality(metrics: Mapping[str, Measurement]) -> str:
    found = perplexities(metrics)
    if not found:
        return "quality not measured"
    told = (f"{number(one.value)} {stage}" for stage, one in found.items())
    return f"perplexity {' → '.join(told)}"
