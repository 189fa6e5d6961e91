"""Which encoders are asked another one's questions."""

import json
import shutil

import pytest

from numprune_export.recipe import builtin_dir
from numprune_export.workflows.remeasure.candidate import candidate
from numprune_export.workflows.remeasure.task_match import same_task

LABELS = ["Clinton", "Bush", "Obama"]


@pytest.fixture
def bert(tmp_path):
    def make(name, *, head="SequenceClassification", labels=LABELS, positions=128):
        """The shipped tiny BERT with another configuration."""
        folder = tmp_path / name
        shutil.copytree(builtin_dir() / "tiny-bert", folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "architectures": [f"BertFor{head}"],
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
            "max_position_embeddings": positions,
        }
        (folder / "config.json").write_text(json.dumps(config))
        return candidate(str(folder))

    return make


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"head": "TokenClassification"}, "has a `TokenClassification` head, not `Sequence"),
        ({"labels": ["a", "b"]}, "has 2 labels, not 3"),
        (
            {"labels": ["Bush", "Clinton", "Obama"]},
            "has the labels `Bush, Clinton, Obama`, not",
        ),
        ({"positions": 63}, "takes at most 63 tokens, and an example has 64"),
    ],
)
def test_what_cannot_answer_the_same_is_left_out_and_told(bert, change, why):
    same, (note,) = same_task([bert("a"), bert("b", **change), bert("c")], longest=64)
    assert same == [True, False, True]
    assert f"b` {why}" in note
    assert note.endswith(": its quality is not measured")


@pytest.mark.parametrize(
    "changes",
    [
        [{"labels": ["LABEL_0", "LABEL_1", "LABEL_2"]}, {}],
        [{}, {"labels": ["LABEL_0", "LABEL_1", "LABEL_2"]}],
        [{"positions": 64}, {"positions": 64}],
        [
            {"head": "QuestionAnswering", "labels": ["start", "end"]},
            {"head": "QuestionAnswering", "labels": ["LABEL_0", "x"]},
        ],
    ],
)
def test_labels_without_names_fit_and_spans_have_none(bert, changes):
    models = [bert(name, **change) for name, change in zip("ab", changes, strict=True)]
    assert same_task(models, longest=64) == ([True, True], [])
