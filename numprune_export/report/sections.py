"""The parts of the page that are made of measurements; empty text where nothing was measured."""

from collections.abc import Callable, Mapping

from numprune_export.report.quantity import measured, number, percent
from numprune_export.report.schema import Measurement
from numprune_export.report.table import table
from numprune_export.report.verdict import scores, significant, targets, timed

Measurements = Mapping[str, Measurement]
_ABSENT = "-"


def quality(metrics: Measurements) -> str:
    """One table per score, the one that counts first."""
    tables = [_score(score, by) for score, by in scores(metrics).items()]
    if not tables:
        return ""
    note = (
        "masked: units removed and nothing else; pruned: with the recipe's compensation, in"
        " PyTorch; the others: the pruned model as exported."
    )
    return "\n\n".join([*tables, note])


def _score(score: str, by: Mapping[str, Measurement]) -> str:
    dense, rows = by.get("dense"), []
    ratio = score == "perplexity"
    for stage, one in by.items():
        change = _ABSENT
        if dense is not None:
            change = (
                f"{number(one.value / dense.value)}x"
                if ratio
                else f"{one.value - dense.value:+.4f}"
            )
        rows.append([stage, number(one.value), _interval(one, number), change, str(one.samples)])
    told = ["of dense", "tokens scored"] if ratio else ["from dense", "examples"]
    return table(["model", score.replace("_", " "), "95 % interval", *told], rows)


def sides(metrics: Measurements, kind: str) -> str:
    """Dense beside pruned, for every quantity of this kind that has both."""
    rows = []
    for name, dense in metrics.items():
        parts = name.split(".")
        if parts[0] != kind or "dense" not in parts:
            continue
        pruned = metrics.get(".".join("pruned" if part == "dense" else part for part in parts))
        if pruned is None:
            continue
        label = " ".join(part for part in parts[1:] if part != "dense").replace("_", " ")
        values = [measured(one.value, one.unit) for one in (dense, pruned)]
        rows.append([label, *values, percent(1 - pruned.value / dense.value)])
    return table(["", "dense", "pruned", "less"], rows) if rows else ""


def parity(metrics: Measurements) -> str:
    """Each exported model beside what its dtype itself costs PyTorch on the same text."""
    rows = [
        _parity_row(metrics, target, variant)
        for target in targets(metrics, "parity")
        for variant in ("dense", "pruned")
        if f"{_parity_name(target, variant)}.max_abs_error" in metrics
    ]
    header = [
        "model",
        "max abs error",
        "PyTorch's own in that dtype",
        "limit",
        "KL (nats)",
        "same top-1",
    ]
    return table([*header, "same greedy tokens", "positions", "worst at"], rows) if rows else ""


def _parity_name(target: str, variant: str) -> str:
    return f"parity.{target}.dense" if variant == "dense" else f"parity.{target}"


def _parity_row(metrics: Measurements, target: str, variant: str) -> list[str]:
    name = _parity_name(target, variant)
    error = metrics[f"{name}.max_abs_error"]
    limit = error.conditions.get("tolerance")
    found = {
        key: number(metrics[f"{name}.{key}"].value) if f"{name}.{key}" in metrics else _ABSENT
        for key in ("rounding_error", "kl_mean", "top1_agreement", "greedy_match")
    }
    return [
        f"{target}, {variant}",
        number(error.value),
        found["rounding_error"],
        number(limit) if isinstance(limit, float) else _ABSENT,
        found["kl_mean"],
        found["top1_agreement"],
        found["greedy_match"],
        str(error.samples),
        str(error.conditions.get("worst", _ABSENT)),
    ]


def budget(metrics: Measurements) -> str:
    """A budget in milliseconds: what was asked for, predicted, and measured afterwards."""
    rows = []
    for name, limit in metrics.items():
        if not (name.startswith("budget.") and name.endswith(".limit_ms")):
            continue
        _, target, *bucket, _ = name.split(".")
        predicted, ratio = (
            metrics[name.replace("limit_ms", one)] for one in ("predicted_ms", "predicted_ratio")
        )
        forward = f"latency.{target}.forward.{'.'.join(bucket)}"
        dense, found = (_median(metrics, f"{forward}.{one}") for one in ("dense", "pruned"))
        told = [number(limit.value), number(predicted.value)]
        told.append(_ABSENT if found is None else number(found.value))
        told.append(percent(ratio.value))
        if dense is None or found is None:
            told += [_ABSENT, _ABSENT]
        else:
            reached = found.value / dense.value
            told += [percent(reached), percent(reached / ratio.value - 1)]
        told.append(str(ratio.conditions["table"]))
        rows.append([f"{target}, {' '.join(bucket)}", *told])
    header = [
        "", "budget ms", "predicted ms", "measured ms", "predicted of dense", "measured of dense",
        "off the prediction", "table",
    ]  # fmt: skip
    note = (
        "Off the prediction: by the fractions of the dense model's time, which was taken in the same"
        " rounds; milliseconds also follow what else the machine does at the moment."
    )
    return f"{table(header, rows)}\n\n{note}" if rows else ""


def allocation(metrics: Measurements) -> str:
    """Weights of attention that were tried out, and the one that was taken."""
    prefix = "allocation.divergence.attention_"
    rows = [
        [name.removeprefix(prefix), number(one.value), str(one.samples)]
        for name, one in metrics.items()
        if name.startswith(prefix)
    ]
    if not rows:
        return ""
    taken = metrics["allocation.attention_weight"].value
    header = ["attention counts", "KL from dense, nats", "answers"]
    note = f"On calibration text, the weights refitted at once. Taken: {taken:g}x."
    return f"{table(header, rows)}\n\n{note}"


def _median(metrics: Measurements, variant: str) -> Measurement | None:
    """As the table behind a budget was timed: by processor time where one thread works."""
    wall = metrics.get(f"{variant}.p50_ms")
    if wall is None:
        return None
    under = wall.conditions
    alone = under.get("device") == "cpu" and under.get("threads") == 1
    return metrics[f"{variant}.cpu_ms"] if alone else wall


def speedup(metrics: Measurements) -> str:
    rows = []
    for phase, target, name in timed(metrics):
        one = metrics[f"{name}.speedup"]
        rows.append(
            [
                f"{phase} on {target}",
                f"{one.value:.2f}x",
                _interval(one, "{:.2f}".format),
                _reading(metrics, f"{name}.ideal"),
                percent(metrics[f"{name}.of_ideal"].value),
                "yes" if significant(one) else "no",
                _reading(metrics, f"{name}.cpu_speedup"),
            ]
        )
    header = ["", "speed-up", "95 % interval", "ideal", "of ideal", "significant", "by CPU time"]
    if not rows:
        return ""
    note = (
        "Ideal: FLOPs removed, and for decode the bytes read per token; more than it"
        " is possible where the smaller model fits a cache that the dense one does not."
    )
    return f"{table(header, rows)}\n\n{note}"


def latency(metrics: Measurements) -> str:
    rows = []
    under, taken = {}, []
    for phase, target, name in timed(metrics):
        for variant in ("dense", "pruned"):
            keys = ("p50_ms", "p90_ms", "p99_ms", "cpu_ms", "tokens_per_s")
            times = [number(metrics[f"{name}.{variant}.{key}"].value) for key in keys]
            rows.append([f"{phase} on {target}, {variant}", *times])
        median = metrics[f"{name}.dense.p50_ms"]
        if disturbed(metrics, f"{name}.dense"):
            taken.append(f"{phase} on {target}")
        told = ", ".join(f"{key} {value}" for key, value in median.conditions.items())
        under[f"{phase} on {target}"] = f"{median.samples} interleaved samples, {told}"
    header = ["", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "tokens/s"]
    if not rows:
        return ""
    notes = "\n".join(f"- {what}: {conditions}" for what, conditions in under.items())
    notes += "".join(
        _spread(metrics, phase, target, name) for phase, target, name in timed(metrics)
    )
    if taken:
        notes += (
            f"\n\nThe machine was busy with other work during {', '.join(taken)}: wall time is far"
            " above CPU time, so trust the ratio by CPU time more."
        )
    return f"{table(header, rows)}\n\n{notes}"


def _spread(metrics: Measurements, phase: str, target: str, name: str) -> str:
    """How much the choice of one build among several matters, where several were made."""
    spread = metrics.get(f"{name}.pruned.rebuild_spread")
    if spread is None:
        return ""
    builds = spread.conditions.get("builds", "several")
    return f"\n- {phase} on {target}: the slowest of {builds} builds takes {percent(spread.value)} longer"


def disturbed(metrics: Measurements, variant: str) -> bool:
    """Whether this process was kept waiting for a processor more than a fifth of the time.

    Judged for the CPU only: elsewhere a process waits for its device, and should.
    """
    wall, cpu = metrics[f"{variant}.p50_ms"], metrics[f"{variant}.cpu_ms"]
    return wall.conditions.get("device") == "cpu" and cpu.value < 0.8 * wall.value


def gpu(metrics: Measurements) -> str:
    """The GPU before and after the benchmark."""
    names = [name.split(".", 2)[2] for name in metrics if name.startswith("gpu.before.")]
    rows = [
        [
            name.rpartition("_")[0].replace("_", " "),
            *(_reading(metrics, f"gpu.{moment}.{name}") for moment in ("before", "after")),
        ]
        for name in names
    ]
    if not rows:
        return ""
    under = metrics[f"gpu.before.{names[0]}"].conditions
    told = ", ".join(f"{key} {value}" for key, value in under.items())
    return f"{table(['', 'before', 'after'], rows)}\n\n{told}"


def _reading(metrics: Measurements, name: str) -> str:
    one = metrics.get(name)
    return _ABSENT if one is None else measured(one.value, one.unit)


def times(metrics: Measurements) -> str:
    rows = [
        [name.removeprefix("time.").removesuffix("_s"), f"{one.value:.1f}"]
        for name, one in metrics.items()
        if name.startswith("time.")
    ]
    return table(["stage", "seconds"], rows) if rows else ""


def _interval(one: Measurement, form: Callable[[float], str]) -> str:
    if one.low is None or one.high is None:
        return _ABSENT
    return f"{form(one.low)} to {form(one.high)}"
