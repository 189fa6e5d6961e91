"""The verdict: a one-sentence summary of a run's metrics."""

from collections.abc import Iterator, Mapping, Sequence

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import count, number, percent

STAGES = ("dense", "masked", "repaired", "pruned")
"""Order of the stages in a score; exported artifacts follow."""

PERPLEXITY = "perplexity"
RATIO = "perplexity_ratio"
"""Perplexity relative to the dense model, of each of several text sources."""
HEADLINE = f"{RATIO}.mean"
"""Score over several text sources: the geometric mean of their ratios."""
WORST = f"{RATIO}.worst"

MOST_PHASES = 2
"""More timed shapes than this are summarized as a range."""


def summarize(
    metrics: Mapping[str, Measurement],
    not_run: Mapping[str, str],
    plan_warnings: Sequence[str] = (),
) -> str:
    """One sentence with size, speed, quality, missing measurements and plan warnings."""
    missing = [f"{name} was built but not run here: {why}" for name, why in not_run.items()]
    parts = [_size(metrics), *_speeds(metrics), *missing, _quality(metrics), *plan_warnings]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def targets(metrics: Mapping[str, Measurement], kind: str) -> list[str]:
    """Sorted targets with metrics of this kind, for example `latency`; PyTorch targets last."""
    names = {name.split(".")[1] for name in metrics if name.startswith(f"{kind}.")}
    return sorted(names, key=lambda name: (is_reference(name), name))


def is_reference(name: str) -> bool:
    """Whether a target is PyTorch itself: `torch`, `torch-cuda`, `torch-cuda-compiled`."""
    return name.partition("-")[0] == "torch"


def scores(metrics: Mapping[str, Measurement]) -> dict[str, dict[str, Measurement]]:
    """Quality by score (the primary score first), then by stage in the order of `STAGES`."""
    by_score: dict[str, dict[str, Measurement]] = {}
    for name, metric in metrics.items():
        kind, _, rest = name.partition(".")
        if kind == "quality":
            score, _, stage = rest.rpartition(".")
            by_score.setdefault(score, {})[stage] = metric
    ordered = {HEADLINE: by_score[HEADLINE]} if HEADLINE in by_score else {}
    ordered |= by_score
    return {score: dict(sorted(by.items(), key=_stage_order)) for score, by in ordered.items()}


def metric_of(score: str) -> str:
    """The metric of a score, without its task or text source.

    >>> metric_of("perplexity_ratio.mean"), metric_of("lm_eval.arc_easy.acc_norm"), metric_of("f1")
    ('perplexity_ratio', 'acc_norm', 'f1')
    """
    parts = score.split(".")
    return parts[-1] if parts[0] == "lm_eval" else parts[0]


def is_of_source(score: str) -> bool:
    """Whether a score is the perplexity, or its ratio, of one or all of several text sources."""
    return score.startswith((f"{PERPLEXITY}.", f"{RATIO}."))


def final(by: Mapping[str, Measurement]) -> str:
    """The model to judge by: the first artifact, else the pruned model, else any scored one."""
    exported = [stage for stage in by if stage not in STAGES]
    return exported[0] if exported else [stage for stage in STAGES if stage in by][-1]


def score_name(score: str) -> str:
    """The display name of a score; for lm-eval (`lm_eval.<task>.<metric>`) it includes the task,
    for several text sources the source.

    >>> score_name("entity_f1"), score_name("lm_eval.arc_easy.acc_norm"), score_name("perplexity.news")
    ('entity f1', 'acc norm of arc_easy', 'perplexity of news')
    >>> score_name(HEADLINE)
    'mean perplexity ratio'
    """
    if is_of_source(score):
        metric, _, source = score.partition(".")
        words = metric.replace("_", " ")
        return f"{source} {words}" if score in (HEADLINE, WORST) else f"{words} of {source}"
    *task, metric = score.removeprefix("lm_eval.").split(".")
    return " of ".join((metric.replace("_", " "), *task))


def _stage_order(item: tuple[str, Measurement]) -> tuple[int, str]:
    name = item[0]
    return (STAGES.index(name) if name in STAGES else len(STAGES), name)


def timed(metrics: Mapping[str, Measurement]) -> list[tuple[str, str, str]]:
    """The timed phases as (phase, target, metric prefix), grouped by phase."""
    rows = []
    for name in metrics:
        kind, *middle, last = name.split(".")
        if kind == "latency" and last == "speedup":
            rows.append((" ".join(middle[1:]), middle[0], name.removesuffix(".speedup")))
    phases = list(dict.fromkeys(phase for phase, _, _ in rows))
    return sorted(rows, key=lambda row: (phases.index(row[0]), is_reference(row[1]), row[1]))


def speed(measurement: Measurement) -> str:
    """A phrase for a speed-up; it says faster or slower only if the interval excludes 1."""
    value, low, high = measurement.value, measurement.low, measurement.high
    if low is None or high is None:
        return f"is {value:.2f}x, without a confidence interval"
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
        speedups = {
            phase: metrics[f"{at}.speedup"]
            for phase, timed_target, at in timed(metrics)
            if timed_target == target
        }
        if len(speedups) > MOST_PHASES:
            yield f"on {target} {_range(list(speedups.values()))}"
        else:
            yield f"on {target} " + " and ".join(
                f"{phase} {speed(speedup)}" for phase, speedup in speedups.items()
            )


def _range(speedups: Sequence[Measurement]) -> str:
    """A phrase for the speed-ups of many shapes."""
    ratios, sure = (
        [speedup.value for speedup in speedups],
        sum(speedup.low is not None and speedup.low > 1 for speedup in speedups),
    )
    return (
        f"{min(ratios):.2f}x to {max(ratios):.2f}x as fast over {len(speedups)} shapes,"
        f" significantly faster at {sure} of them"
    )


def _quality(metrics: Mapping[str, Measurement]) -> str:
    for score, by in scores(metrics).items():
        if score == HEADLINE:
            return _ratios(by, metrics)
        steps = (f"{number(metric.value)} {stage}" for stage, metric in by.items())
        return f"{score_name(score)} {' → '.join(steps)}"
    return "quality not measured"


def _ratios(mean: Mapping[str, Measurement], metrics: Mapping[str, Measurement]) -> str:
    model = final(mean)
    worst = metrics[f"quality.{WORST}.{model}"]
    return (
        f"perplexity {mean[model].value:.3f}x of dense on {model}, geometric mean of"
        f" {mean[model].conditions['sources']} text sources, at worst {worst.value:.3f}x"
        f" on {worst.conditions['worst']}"
    )
