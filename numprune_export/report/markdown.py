"""Render a report as Markdown: verdict first, then the measurements."""

from collections.abc import Iterator, Mapping
from datetime import timezone

import yaml

from numprune_export.measure.environment import Environment
from numprune_export.report import sections
from numprune_export.report.schema import Report, SiteWidth
from numprune_export.report.tables.format import attention_unit, size
from numprune_export.report.tables.table import table

_ABSENT = "-"


def render(report: Report) -> str:
    """Render a report as Markdown; sections without content are omitted."""
    metrics = report.metrics
    parts = {
        "Warnings": "\n".join(f"- {warning}" for warning in report.all_warnings),
        "Quality": sections.quality(report),
        "Size": sections.sides(metrics, "size"),
        "Not run here": _not_run(report),
        "Parity with PyTorch": sections.parity(metrics),
        "Allocation": sections.allocation(metrics),
        "Latency budget": sections.budget(metrics),
        "Speed-up": sections.speedup(metrics),
        "Latency": sections.latency(metrics),
        "Memory": sections.sides(metrics, "memory"),
        "GPU": sections.gpu(metrics),
        "Text sources": sections.texts(report),
        "Kept units": _plan(report.plan),
        "Time and memory per stage": sections.stages(report),
        "Artifacts": _artifacts(report),
        "Precision": "\n".join(
            f"- {step}: {numbers}" for step, numbers in report.precision.items()
        ),
        "Environment": _environment(report.environment),
        "Recipe": _recipe(report),
    }
    body = (f"## {title}\n\n{text}" for title, text in parts.items() if text)
    head = f"# Pruning report: {report.recipe_name}\n\n**{report.summary}**"
    created = f"Created {report.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC."
    return "\n\n".join((head, created, *body)) + "\n"


def _not_run(report: Report) -> str:
    return "\n".join(f"- `{name}`: {why}" for name, why in report.not_run.items())


def _plan(plan: tuple[SiteWidth, ...]) -> str:
    layers: dict[str, dict[str, str]] = {}
    for width in plan:
        layer, _, kind = width.site.rpartition(".")
        layers.setdefault(layer, {})[kind] = f"{width.kept} of {width.units}"
    rows = [
        [layer, kinds.get("attention", _ABSENT), kinds.get("mlp", _ABSENT)]
        for layer, kinds in layers.items()
    ]
    return table(["layer", attention_unit(plan), "MLP channels"], rows) if rows else ""


def _artifacts(report: Report) -> str:
    rows = [
        [name, artifact.folder, size(artifact.size_bytes), ", ".join(_facts(artifact.facts))]
        for name, artifact in report.artifacts.items()
    ]
    return table(["artifact", "folder", "size", "facts"], rows) if rows else ""


def _facts(facts: Mapping[str, object]) -> Iterator[str]:
    """Scalar facts as `key value`; report.json holds all facts."""
    for key, value in facts.items():
        if isinstance(value, str | int | float):
            yield f"{key} {value}"


def _environment(environment: Environment) -> str:
    cores = f"{environment.usable_cores} usable cores"
    if environment.physical_cores is not None:
        cores += f" ({environment.physical_cores} physical)"
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    lines = [
        f"- {environment.cpu}, {environment.machine}, {cores}, {size(environment.memory_bytes)}",
        f"- {environment.system}, Python {environment.python}",
        f"- {packages}",
    ]
    lines += [
        f"- {gpu.name}, {size(gpu.memory_bytes)}, compute capability {gpu.compute_capability}"
        for gpu in environment.gpus
    ]
    return "\n".join(lines)


def _recipe(report: Report) -> str:
    text = yaml.safe_dump(report.recipe, sort_keys=False, allow_unicode=True)
    return f"```yaml\n{text}```"
