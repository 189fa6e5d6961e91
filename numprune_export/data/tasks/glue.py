"""GLUE and SQuAD recipes by name, such as `bert-base-mrpc`: entries of a table, not files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numprune_export.data.labelled.settings import MetricName


@dataclass(frozen=True)
class Benchmark:
    """One task of GLUE (Wang et al. 2018, arXiv:1804.07461) or one version of SQuAD."""

    dataset: str
    config: str | None
    fields: tuple[str, ...]
    metric: MetricName
    max_length: int
    mean_length: float
    """Mean tokens per example of the validation split without padding, at which MACs are counted
    (Kwon et al. 2022)."""
    label: str = "label"
    validation: str = "validation"
    batch: int = 32


_PAIR = ("sentence1", "sentence2")

BENCHMARKS = {
    "mnli": Benchmark(
        "nyu-mll/glue", "mnli", ("premise", "hypothesis"), "accuracy", 128, 39.05,
        validation="validation_matched",
    ),
    "qqp": Benchmark("nyu-mll/glue", "qqp", ("question1", "question2"), "accuracy", 128, 30.55),
    "qnli": Benchmark("nyu-mll/glue", "qnli", ("question", "sentence"), "accuracy", 128, 50.97),
    "sst2": Benchmark("nyu-mll/glue", "sst2", ("sentence",), "accuracy", 64, 25.16),
    "mrpc": Benchmark("nyu-mll/glue", "mrpc", _PAIR, "accuracy", 128, 53.24),
    "cola": Benchmark("nyu-mll/glue", "cola", ("sentence",), "matthews", 64, 11.67),
    "rte": Benchmark("nyu-mll/glue", "rte", _PAIR, "accuracy", 128, 64.59),
    "stsb": Benchmark("nyu-mll/glue", "stsb", _PAIR, "spearman", 128, 31.47),
    "squad1": Benchmark(
        "rajpurkar/squad", None, ("question", "context"), "f1", 384, 170.0, "answers", batch=12
    ),
    "squad2": Benchmark(
        "rajpurkar/squad_v2", None, ("question", "context"), "f1", 384, 170.0, "answers", batch=12
    ),
}  # fmt: skip

# Hub ids; they were not downloaded when this table was written.
_TEXTATTACK = {
    "mnli": "MNLI", "qqp": "QQP", "qnli": "QNLI", "sst2": "SST-2",
    "mrpc": "MRPC", "cola": "CoLA", "rte": "RTE", "stsb": "STS-B",
}  # fmt: skip
_MODELS = {
    **{f"bert-base-{task}": f"textattack/bert-base-uncased-{name}" for task, name in _TEXTATTACK.items()},
    **{f"distilbert-{task}": f"textattack/distilbert-base-uncased-{name}" for task, name in _TEXTATTACK.items()},
    "bert-base-squad1": "csarron/bert-base-uncased-squad-v1",
    "bert-base-squad2": "deepset/bert-base-uncased-squad2",
    "distilbert-squad1": "distilbert/distilbert-base-uncased-distilled-squad",
    "distilbert-squad2": "twmkn9/distilbert-base-uncased-squad2",
}  # fmt: skip

_OTHER_COUNT: dict[str, dict[str, Any]] = {
    # These checkpoints order classes contradiction, entailment, neutral; in GLUE entailment is first.
    "mnli": {"relabel": {"0": 1, "1": 2, "2": 0}},
    # These checkpoints predict similarity from 0 to 1; GLUE's labels go up to 5.
    "stsb": {"target_scale": 5.0},
}

CALIBRATION_SEQUENCES = 2048
STRIDE = 128


@dataclass(frozen=True)
class Entry:
    """The settings of a recipe of this table; all others are defaults of the schema."""

    model: str
    """Hub id."""
    calibration: dict[str, Any]
    """Settings of `LabelledData`: a sample of the training split."""
    evaluation: dict[str, Any]
    """Settings of `LabelledData`: the whole validation split."""
    mean_length: float
    """See `Benchmark`."""


def table() -> dict[str, Entry]:
    """Every recipe of the table by name, such as `bert-base-mrpc` or `distilbert-squad1`."""
    return {name: entry(name) for name in _MODELS}


def entry(name: str) -> Entry:
    """One recipe of the table.

    Raises:
        KeyError: the table has no such recipe.
    """
    model = _MODELS[name]
    task = name.rpartition("-")[2]
    benchmark = BENCHMARKS[task]
    data: dict[str, Any] = {
        "fields": list(benchmark.fields),
        "label": benchmark.label,
        "metric": benchmark.metric,
        "max_length": benchmark.max_length,
        "batch": benchmark.batch,
        **({"stride": STRIDE} if task.startswith("squad") else {}),
        **_OTHER_COUNT.get(task, {}),
    }
    return Entry(
        model=model,
        calibration={
            "dataset": _dataset(benchmark, "train"), **data, "sequences": CALIBRATION_SEQUENCES
        },
        evaluation={"dataset": _dataset(benchmark, benchmark.validation), **data},
        mean_length=benchmark.mean_length,
    )  # fmt: skip


def _dataset(benchmark: Benchmark, split: str) -> dict[str, str]:
    name = {} if benchmark.config is None else {"name": benchmark.config}
    return {"id": benchmark.dataset, **name, "split": split}
