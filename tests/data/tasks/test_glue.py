"""The table of GLUE and SQuAD recipes: complete, and each entry is valid settings."""

import pytest

from numprune_export.data.labelled.labels import Classes
from numprune_export.data.labelled.rows import NamedClass
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.tasks import glue

TASKS = ("mnli", "qqp", "qnli", "sst2", "mrpc", "cola", "rte", "stsb", "squad1", "squad2")


def test_every_task_is_there_for_both_models():
    names = {f"{model}-{task}" for model in ("bert-base", "distilbert") for task in TASKS}
    assert set(glue.table()) == names
    assert len({entry.model for entry in glue.table().values()}) == len(names)


@pytest.mark.parametrize("name", sorted(glue.table()))
def test_an_entry_is_valid_settings(name):
    entry = glue.entry(name)
    calibration = LabelledData.model_validate(entry.calibration)
    evaluation = LabelledData.model_validate(entry.evaluation)
    assert calibration.sequences == 2048
    assert evaluation.sequences is None
    assert calibration.dataset.split == "train"
    assert evaluation.dataset.split.startswith("validation")
    assert calibration.metric == evaluation.metric
    assert calibration.fields == evaluation.fields
    assert calibration.max_length == evaluation.max_length > entry.mean_length > 10
    assert entry.model.split("/")[1].lower().startswith(name.split("-")[0])


def test_the_sizes_of_the_paper():
    lengths = {task: glue.BENCHMARKS[task].max_length for task in TASKS}
    assert [task for task, length in lengths.items() if length == 64] == ["sst2", "cola"]
    assert [task for task, length in lengths.items() if length == 384] == ["squad1", "squad2"]
    assert glue.entry("bert-base-squad1").calibration["stride"] == 128
    assert glue.entry("bert-base-squad1").calibration["batch"] == 12
    assert glue.entry("bert-base-qqp").mean_length == 30.55


def test_checkpoints_that_count_otherwise_are_translated():
    relabel = glue.entry("bert-base-mnli").evaluation["relabel"]
    classes = Classes(("LABEL_0", "LABEL_1", "LABEL_2"))
    data = [NamedClass(0, "entailment"), NamedClass(1, "neutral"), NamedClass(2, "contradiction")]
    assert [classes.number(label, "", relabel) for label in data] == [1, 2, 0]
    assert glue.entry("distilbert-stsb").evaluation["target_scale"] == 5
    assert "relabel" not in glue.entry("bert-base-rte").evaluation
