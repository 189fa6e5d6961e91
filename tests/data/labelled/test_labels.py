"""Labels as data has them, and the model's class numbers."""

import pytest
from tiny_encoder import tiny_encoder

from numprune_export.core.errors import InputError
from numprune_export.data.labelled.labels import Classes, of, target_number
from numprune_export.data.labelled.rows import NamedClass
from numprune_export.data.row_file import Row

CLASSES = Classes(("negative", "neutral", "positive"))
WHERE = "line 3 of `a.jsonl`"


@pytest.mark.parametrize(
    ("label", "number"),
    [
        (2, 2), ("2", 2), (2.0, 2), ("2.0", 2), (" 2 ", 2), ("positive", 2), ("POSITIVE", 2),
        (" Positive", 2), (NamedClass(0, "positive"), 2), (NamedClass(0, "Positive"), 2),
        (NamedClass(1, "1"), 1),
    ],
)  # fmt: skip
def test_a_label_is_a_number_a_number_as_text_or_a_name(label, number):
    assert CLASSES.number(label, WHERE) == number


def test_relabel_says_where_data_and_model_count_differently():
    relabel = {"0": 1, "1": 2, "2": 0, "bad": 0}
    assert [CLASSES.number(label, WHERE, relabel) for label in (0, 1, 2, "bad", "2")] == [
        1,
        2,
        0,
        0,
        0,
    ]
    assert CLASSES.number(NamedClass(0, "entailment"), WHERE, relabel) == 1
    assert CLASSES.number("neutral", WHERE, relabel) == 1


def test_a_data_sets_number_counts_only_where_the_models_classes_have_no_names():
    unnamed = Classes(("LABEL_0", "LABEL_1", "LABEL_2"))
    assert unnamed.number(NamedClass(1, "entailment"), WHERE) == 1
    assert unnamed.number(NamedClass(0, "label_2"), WHERE) == 2
    for classes in (CLASSES, Classes(("LABEL_0", "entailed", "LABEL_2"))):
        with pytest.raises(
            InputError, match="no class `entailment`, the data set's name of class 1"
        ) as no:
            classes.number(NamedClass(1, "entailment"), WHERE)
        assert "`relabel`" in no.value.hint
    assert CLASSES.number(NamedClass(1, "entailment"), WHERE, {"entailment": 2}) == 2
    assert CLASSES.number(NamedClass(1, "entailment"), WHERE, {"1": 0}) == 0


def test_names_that_differ_in_case_alone_are_told_apart_or_refused():
    classes = Classes(("US", "us", "other"))
    assert [classes.number(name, WHERE) for name in ("US", "us", "Other")] == [0, 1, 2]
    with pytest.raises(InputError, match=r"is ambiguous: it matches the classes `US`, `us`"):
        classes.number("Us", WHERE)


@pytest.mark.parametrize("label", [1, "1", 1.0, "1.0"])
def test_a_number_that_may_be_a_name_or_a_number_is_refused(label):
    stars = Classes(("1", "2", "3"))
    if label == "1":  # a text is a name first
        assert stars.number(label, WHERE) == 0
        return
    with pytest.raises(InputError, match="is ambiguous: one class has this name"):
        stars.number(label, WHERE)
    assert stars.number(label, WHERE, {str(label): 2}) == 2
    assert Classes(("0", "1", "2")).number(label, WHERE) == 1


def test_classes_that_are_not_numbered_from_zero_are_refused():
    config = tiny_encoder().config
    config.id2label = {1: "a", 2: "b"}
    with pytest.raises(InputError, match="2 classes, but none with number 0"):
        Classes.of(config)


@pytest.mark.parametrize(
    "label", [3, -2, "17", NamedClass(5, "5"), "9" * 5000, 10**400, "-" + "9" * 30]
)
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


@pytest.mark.parametrize(
    "label", ["postive", "2.5", 1.5, True, ["positive"], "", "\u0662", "x" * 5000]
)
def test_an_unknown_class_is_refused(label):
    with pytest.raises(InputError, match="the model has no class"):
        CLASSES.number(label, WHERE)


def test_an_unknown_class_gets_a_suggestion():
    with pytest.raises(InputError) as caught:
        CLASSES.number("postive", WHERE)
    assert caught.value.hint.startswith("did you mean `positive`?")
    with pytest.raises(InputError) as caught:
        CLASSES.number("zzz", WHERE)
    assert "`negative`, `neutral`, `positive`" in caught.value.hint


def test_relabelling_out_of_range_is_refused_too():
    with pytest.raises(InputError, match="outside the model's 3 classes"):
        CLASSES.number(0, WHERE, {"0": 3})


@pytest.mark.parametrize(
    "label", ["x", None, True, float("nan"), "inf", [1], 10**400, "1e39", "9" * 400]
)
def test_a_regression_wants_finite_numbers(label):
    with pytest.raises(InputError, match="is not a number"):
        target_number(label, WHERE)
    assert target_number("2.5", WHERE) == 2.5
    assert target_number("2.5", WHERE, 5.0) == 0.5


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
