"""What a run came to, in one sentence made of its metrics."""

from collections.abc import Iterator, Mapping, Sequence

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import count, number, percent

STAGES = ("dense", "masked", "pruned")
"""Order in which a score is told; exported artifacts follow."""

MOST_PHASES = 2
"""More timed shapes than this are told as a range."""


def summarize(
    metrics: Mapping[str, Measurement],
    not_run: Mapping[str, str],
    plan_warnings: Sequence[str] = (),
) -> str:
    """Size, speed and quality; what was not measured is said so, and what is odd about the plan."""
    missing = [f"{name} was built but not run here: {why}" for name, why in not_run.items()]
    parts = [_size(metrics), *_speeds(metrics), *missing, _quality(metrics), *plan_warnings]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def targets(metrics: Mapping[str, Measurement], kind: str) -> list[str]:
    """Targets that have metrics of this kind, such as `latency`; PyTorch's own rows come last."""
    names = {name.split(".")[1] for name in metrics if name.startswith(f"{kind}.")}
    return sorted(names, key=lambda name: (is_reference(name), name))


def is_reference(name: str) -> bool:
    """Whether this is a row of PyTorch itself: `torch`, `torch-cuda`, `torch-cuda-compiled`."""
    return name.partition("-")[0] == "torch"


def scores(metrics: Mapping[str, Measurement]) -> dict[str, dict[str, Measurement]]:
    """Quality by score, the one that counts first, then by stage, in the order they are told."""
    found: dict[str, dict[str, Measurement]] = {}
    for name, one in metrics.items():
        kind, _, rest = name.partition(".")
        if kind == "quality":
            score, _, stage = rest.rpartition(".")
            found.setdefault(score, {})[stage] = one
    return {score: dict(sorted(by.items(), key=_told)) for score, by in found.items()}


def score_name(score: str) -> str:
    """A score as people read it; one of lm-eval, `lm_eval.<task>.<metric>`, names its task.

    >>> score_name("entity_f1"), score_name("lm_eval.arc_easy.acc_norm")
    ('entity f1', 'acc norm of arc_easy')
    """
    *task, metric = score.removeprefix("lm_eval.").split(".")
    return " of ".join((metric.replace("_", " "), *task))


def _told(item: tuple[str, Measurement]) -> tuple[int, str]:
    name = item[0]
    return (STAGES.index(name) if name in STAGES else len(STAGES), name)


def timed(metrics: Mapping[str, Measurement]) -> list[tuple[str, str, str]]:
    """What was timed: phase, target, and the name that its metrics begin with; phase by phase."""
    found = []
    for name in metrics:
        kind, *middle, last = name.split(".")
        if kind == "latency" and last == "speedup":
            found.append((" ".join(middle[1:]), middle[0], name.removesuffix(".speedup")))
    phases = list(dict.fromkeys(phase for phase, _, _ in found))
    return sorted(found, key=lambda one: (phases.index(one[0]), is_reference(one[1]), one[1]))


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
    names = targets(metrics, "latency")
    exported = [name for name in names if not is_reference(name)] or names
    if not exported:
        yield "speed not measured"
    for target in exported:
        found = {
            phase: metrics[f"{at}.speedup"] for phase, one, at in timed(metrics) if one == target
        }
        if len(found) > MOST_PHASES:
            yield f"on {target} {_range(list(found.values()))}"
        else:
            yield f"on {target} " + " and ".join(
                f"{phase} {speed(one)}" for phase, one in found.items()
            )


def _range(found: Sequence[Measurement]) -> str:
    """Many shapes in one phrase."""
    ratios, sure = (
        [one.value for one in found],
        sum(one.low is not None and one.low > 1 for one in found),
    )
    return (
        f"{min(ratios):.2f}x to {max(ratios):.2f}x as fast over {len(found)} shapes,"
        f" significantly faster at {sure} of them"
    )


def _quality(metrics: Mapping[str, Measurement]) -> str:
    for score, by in scores(metrics).items():
        told = (f"{number(one.value)} {stage}" for stage, one in by.items())
        return f"{score_name(score)} {' → '.join(told)}"
    return "quality not measured"
