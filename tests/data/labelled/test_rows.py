"""Rows of labelled data: every format gives the same ones, and what is unusable is named."""

import json

import pytest
from pydantic import ValidationError

from numprune_export.core.errors import HubError, InputError
from numprune_export.data.corpus_settings import Dataset
from numprune_export.data.labelled import rows
from numprune_export.data.labelled.settings import LabelledData

ROWS = [{"text": f"row {index}", "label": f"{index % 3}"} for index in range(20)]


def settings(*names, **more):
    return LabelledData(files=names, **{"batch": 1, **more})


def fields(data, folder):
    return [dict(row.fields) for row in rows.read(data, [folder])]


def test_several_files_are_read_in_their_order(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS[:2])))
    (tmp_path / "b.csv").write_text("text,label\nrow 2,2\n")
    assert fields(settings("b.csv", "a.jsonl"), tmp_path) == [ROWS[2], *ROWS[:2]]


def test_rows_are_drawn_without_replacement_by_seed(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    drawn = [fields(settings("a.jsonl", sequences=8, seed=seed), tmp_path) for seed in (0, 0, 1)]
    assert len({row["text"] for row in drawn[0]}) == 8
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == [row for row in ROWS if row in drawn[0]]
    assert fields(settings("a.jsonl"), tmp_path) == ROWS


def test_too_few_rows_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    with pytest.raises(InputError, match="20 examples, fewer than the 21 requested"):
        rows.read(settings("a.jsonl", sequences=21), [tmp_path])
    with pytest.raises(InputError, match="20 examples, fewer than one batch of 32"):
        rows.read(settings("a.jsonl", batch=32), [tmp_path])


def test_a_sample_smaller_than_a_batch_is_refused():
    with pytest.raises(ValidationError, match="8 sequences are fewer than one batch of 16"):
        LabelledData(files=("a.jsonl",), sequences=8, batch=16)


def test_exactly_one_source_is_asked_for():
    with pytest.raises(ValidationError, match="either"):
        LabelledData()
    with pytest.raises(ValidationError, match="either"):
        LabelledData(files=("a.jsonl",), dataset=Dataset(id="x/y"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\nnot json', "line 2 of .*a.jsonl` is not a JSON object"),
        ("a.jsonl", '["x"]', "line 1 of .* is not a JSON object"),
        ("a.csv", "text,label\nx,1\ny", "line 3 of .* values, but the header has"),
        ("a.csv", "text,label\nx,1,2", "line 2 of .* values, but the header has"),
        ("a.csv", 'text,label\n"x"y,1', "line 2 of .* is not CSV"),
        ("a.json", '{"data": [{"paragraphs": 3}]}', "is not SQuAD JSON"),
        ("a.json", "{", "is not JSON"),
        ("a.parquet", "x", "has no suffix of labelled data"),
        ("a.jsonl", " \n", "holds no text"),
    ],
)
def test_an_unusable_file_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        rows.read(settings(name), [tmp_path])


def test_paths_are_looked_up_as_everywhere(tmp_path):
    with pytest.raises(InputError, match=r"`nowhere\.jsonl` does not exist in"):
        rows.read(settings("nowhere.jsonl"), [tmp_path])
    with pytest.raises(InputError, match="climbs out"):
        rows.read(settings("../a.jsonl"), [tmp_path])


def test_a_missing_field_names_those_there_are(tmp_path):
    (tmp_path / "a.csv").write_text("body,label\nx,1")
    (row,) = rows.read(settings("a.csv"), [tmp_path])
    with pytest.raises(InputError, match=r"line 2 of .* has no field `text`") as caught:
        row.get("text")
    assert "`body`, `label`" in caught.value.hint


def test_squad_files_are_read_as_published(tmp_path):
    asked = {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}
    none = {"id": "q2", "question": "Why?", "is_impossible": True, "answers": []}
    article = {"title": "t", "paragraphs": [{"context": "Ann is here", "qas": [asked, none]}]}
    (tmp_path / "dev.json").write_text(json.dumps({"version": "v2.0", "data": [article]}))
    first, second = rows.read(settings("dev.json"), [tmp_path])
    assert first.fields["answers"] == {"text": ["Ann"], "answer_start": [0]}
    assert second.fields["answers"] == {"text": [], "answer_start": []}
    assert (first.fields["context"], first.fields["question"]) == ("Ann is here", "Who?")
    assert "question `q1`" in first.place


def test_a_data_set_folder_is_drawn_from_and_keeps_the_names_of_its_classes(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "X"])),
        }
    )
    rows_of = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[1], [0, 1], []]}
    made = datasets.Dataset.from_dict(rows_of, features=features)
    made.to_parquet(str(tmp_path / "train.parquet"))
    data = LabelledData(dataset=Dataset(id=str(tmp_path)), batch=1)
    examples = rows.read(data, [])
    named = rows.NamedClass
    assert [row.fields["label"] for row in examples] == [named(1, "yes"), named(0, "no"), -1]
    assert examples[1].fields["tags"] == [named(0, "O"), named(1, "X")]
    assert len(rows.read(data.model_copy(update={"sequences": 2}), [])) == 2


def test_an_unreachable_data_set_is_a_hub_error():
    pytest.importorskip("datasets", reason="the [datasets] extra is not installed")
    with pytest.raises(HubError, match="no-such-org/no-such-set"):
        rows.read(LabelledData(dataset=Dataset(id="no-such-org/no-such-set")), [])
