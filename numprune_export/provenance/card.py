"""The model card: README.md of a pruned model folder, in the Hugging Face hub's format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numprune_export.provenance.metadata import metadata, pipeline_tag, texts
from numprune_export.report import sections
from numprune_export.report.schema import Report
from numprune_export.report.tables.format import percent
from numprune_export.report.tables.table import table
from numprune_export.report.text_sources import of_calibration
from numprune_export.report.verdict import is_of_source, score_name, scores

NAME = "README.md"

_USE = {
    "text-generation": (
        "AutoModelForCausalLM",
        'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))",
    ),
    "text-classification": (
        "AutoModelForSequenceClassification",
        'inputs = tokenizer("A text to classify", return_tensors="pt")\n'
        "print(model(**inputs).logits)",
    ),
    "token-classification": (
        "AutoModelForTokenClassification",
        'inputs = tokenizer("A text to label", return_tensors="pt")\nprint(model(**inputs).logits)',
    ),
    "question-answering": (
        "AutoModelForQuestionAnswering",
        'inputs = tokenizer("A question?", "A text with the answer", return_tensors="pt")\n'
        "print(model(**inputs).start_logits)",
    ),
}


def render(report: Report, config: Mapping[str, Any], licence: Mapping[str, str]) -> str:
    """Render the card of a pruned model folder. The text depends only on the arguments.

    Args:
        report: Report of the run; the source of all numbers.
        config: config.json of the folder.
        licence: See `licence_of`.
    """
    head = metadata(report, config, licence).to_yaml()
    parts = {
        "Load it": _loading(config),
        "Measured": _measured(report),
        "What was removed": _removed(report),
        "How it was made": _making(report, config),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(report, config, licence)),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    return f"---\n{head}\n---\n\n# {report.recipe_name}\n\n{_what(config)}\n\n**{report.summary}**\n\n{body}\n"


def read_config(model: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return config


def _what(config: Mapping[str, Any]) -> str:
    return (
        f"{_parent(config)}, pruned after training by numprune-export. Attention heads and MLP"
        " channels were removed: the tensors are smaller, nothing is masked, and no sparse kernels"
        " are needed. Compensation, if any, is in closed form; no gradient steps were taken."
    )


def _parent(config: Mapping[str, Any]) -> str:
    """The dense model's name, without local folders."""
    parent = config["numprune"]["parent"]
    if parent["revision"] is not None:
        return f"[{parent['reference']}](https://huggingface.co/{parent['reference']})"
    return f"`{Path(parent['reference']).name}`"


def _loading(config: Mapping[str, Any]) -> str:
    name, use = _USE[pipeline_tag(config["architectures"][0])]
    own = "auto_map" in config
    trust = ", trust_remote_code=True" if own else ""
    why = (
        "Layers have different widths, which a stock Hugging Face config cannot express:"
        " `trust_remote_code=True` runs `modeling_numprune.py` from this folder."
        " `numprune_export.load(folder)` loads the model without running code from it."
        if own
        else "A stock checkpoint: transformers alone loads it."
    )
    lines = [
        f"from transformers import {name}, AutoTokenizer",
        "",
        'folder = "."  # this folder, or its name on the hub',
        f"model = {name}.from_pretrained(folder{trust})",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        use,
    ]
    return "```python\n" + "\n".join(lines) + f"\n```\n\n{why}"


def _measured(report: Report) -> str:
    metrics, machine = report.metrics, report.environment
    blocks = [
        sections.quality(report),
        sections.sides(metrics, "size"),
        sections.speedup(metrics),
    ]
    where = f"On {machine.cpu}, {machine.usable_cores} usable cores, {machine.system}"
    if machine.gpus:
        where += f", {', '.join(gpu.name for gpu in machine.gpus)}"
    text = texts(report.recipe, "evaluation")
    return "\n\n".join([*(block for block in blocks if block), f"{where}. Quality on: {text}."])


def _removed(report: Report) -> str:
    """Table of removed units per layer."""
    layers: dict[str, dict[str, str]] = {}
    for width in report.plan:
        layer, _, kind = width.site.rpartition(".")
        gone = 1 - width.kept / width.units
        layers.setdefault(layer, {})[kind] = (
            f"{width.units - width.kept} of {width.units} ({percent(gone)})"
        )
    rows = [[layer, by.get("attention", "-"), by.get("mlp", "-")] for layer, by in layers.items()]
    return table(["layer", "attention units removed", "MLP channels removed"], rows)


def _making(report: Report, config: Mapping[str, Any]) -> str:
    section, recipe = config["numprune"], report.recipe
    method = section["method"]
    versions = ", ".join(
        f"{name} {version}" for name, version in section["versions"].items() if version
    )
    facts = {
        "kept": _kept(section),
        "score": _settings(method["score"]),
        "allocation": _settings(method["allocate"]),
        "compensation": _settings(method["compensate"]),
        "calibration": f"{texts(recipe, 'calibration')}; windows sha256 `{section['calibration_sha256']}`",
        "parent": f"sha256 `{section['parent']['sha256']}`, revision {section['parent']['revision']}",
        "versions": versions,
    }
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return (
        f"{lines}\n\n`manifest.json` holds the full recipe, the code version, the machine and the"
        " sha256 of every file; `numprune-export verify .` checks the files."
    )


def _kept(section: Mapping[str, Any]) -> str:
    asked = f"{section['method']['keep']:g} of the recipe's budget"
    plan = section.get("plan", {})  # absent from models that earlier versions saved
    if not plan.get("edited", False):
        return asked
    return f"{plan['keep']:.4g} of the prunable parameters, by a plan edited by hand (not {asked})"


def _settings(section: Mapping[str, Any]) -> str:
    """A recipe section as `method (key value, ...)`, without null keys."""
    rest = ", ".join(
        f"{key} {value}" for key, value in section.items() if key != "method" and value is not None
    )
    name = section.get("method", "threshold")
    return f"`{name}` ({rest})" if rest else f"`{name}`"


def _limits(report: Report, config: Mapping[str, Any], licence: Mapping[str, str]) -> Iterator[str]:
    names = (
        "perplexity" if is_of_source(score) else score_name(score)
        for score in scores(report.metrics)
    )
    measured = ", ".join(dict.fromkeys(names))
    yield (
        f"Quality was measured only as {measured or 'nothing'} on"
        f" {texts(report.recipe, 'evaluation')}: other languages, domains and tasks can lose more."
        " Measure on your own data."
    )
    if texts(report.recipe, "evaluation") == texts(report.recipe, "calibration"):
        yield "Calibration and evaluation use the same text, so the scores are optimistic."
    elif known := of_calibration(report):
        yield (
            f"The calibration has text of the evaluation's {', '.join(sorted(known))}: other text can"
            " lose more."
        )
    if "auto_map" in config:
        yield "Servers that assume one width for all layers cannot load this folder."
    for name, why in report.not_run.items():
        yield f"`{name}` was built but not run on this machine: {why}."
    yield "Limits and biases of the dense model remain; pruning's effect on them was not tested."
    if not licence:
        yield "The dense model's files do not state its licence, which applies here too."
