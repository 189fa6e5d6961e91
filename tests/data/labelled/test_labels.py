"""Labels as data has them, and the model's class numbers."""

import pytest
from tiny_encoder import tiny_encoder

from numprune_export.core.errors import InputError
from numprune_export.data.labelled.labels import Classes, of, target_number
from numprune_export.data.labelled.rows import NamedClass, Row

CLASSES = Classes(("negative", "neutral", "positive"))
WHERE = "line 3 of `a.jsonl`"


@pytest.mark.parametrize(
    ("label", "number"),
    [(2, 2), ("2", 2), (2.0, 2), ("positive", 2), (NamedClass(0, "positive"), 2), (NamedClass(1, "x"), 1)],
)  # fmt: skip
def test_a_label_is_a_number_a_number_as_text_or_a_name(label, number):
    assert CLASSES.number(label, WHERE) == number


def test_relabel_says_where_data_and_model_count_differently():
    relabel = {"0": 1, "1": 2, "2": 0, "bad": 0}
    assert [CLASSES.number(one, WHERE, relabel) for one in (0, 1, 2, "bad", "2")] == [1, 2, 0, 0, 0]
    assert CLASSES.number(NamedClass(0, "entailment"), WHERE, relabel) == 1
    assert CLASSES.number("neutral", WHERE, relabel) == 1


@pytest.mark.parametrize("label", [3, -2, "17", NamedClass(5, "x")])
def test_a_label_outside_the_models_range_is_refused_with_its_place(label):
    with pytest.raises(
        InputError, match=r"line 3 of `a.jsonl`.* outside the model's 3 classes"
    ) as caught:
        CLASSES.number(label, WHERE)
    assert "0 to 2" in caught.value.hint


def test_a_hidden_label_is_told_from_a_wrong_one():
    with pytest.raises(InputError, match="`-1` is outside") as caught:
        CLASSES.number(-1, WHERE)
    assert "hidden label" in caught.value.hint


@pytest.mark.parametrize("label", ["postive", "2.5", 1.5, True, ["positive"], ""])
def test_an_unknown_class_is_refused(label):
    with pytest.raises(InputError, match="the model has no class"):
        CLASSES.number(label, WHERE)


def test_an_unknown_class_gets_a_suggestion():
    with pytest.raises(InputError) as caught:
        CLASSES.number("postive", WHERE)
    assert caught.value.hint == "did you mean `positive`?"
    with pytest.raises(InputError) as caught:
        CLASSES.number("zzz", WHERE)
    assert "`negative`, `neutral`, `positive`" in caught.value.hint


def test_relabelling_out_of_range_is_refused_too():
    with pytest.raises(InputError, match="outside the model's 3 classes"):
        CLASSES.number(0, WHERE, {"0": 3})


@pytest.mark.parametrize("label", ["x", None, True, float("nan"), "inf", [1]])
def test_a_regression_wants_finite_numbers(label):
    with pytest.raises(InputError, match="is not a number"):
        target_number(label, WHERE)
    assert target_number("2.5", WHERE) == 2.5


@pytest.mark.parametrize(
    "fields", [{"text": "x"}, {"text": "x", "label": None}, {"text": "x", "label": " "}]
)
def test_a_row_without_its_label_is_refused(fields):
    with pytest.raises(
        InputError, match=r"line 3 of `a.jsonl` has no label under `label`"
    ) as caught:
        of(Row(fields, WHERE), "label")
    assert "`text`" in caught.value.hint


def test_classes_are_named_as_the_model_names_them():
    config = tiny_encoder().config
    assert Classes.of(config).names == tuple(f"LABEL_{index}" for index in range(5))
