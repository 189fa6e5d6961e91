"""Scores against scikit-learn, SciPy and published cases, and the bootstrap behind their intervals."""

import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from numprune_export.data.tasks.evaluation import Evaluation, Measure
from numprune_export.data.tasks.metrics import bootstrap, classification, correlation, squad
from numprune_export.data.tasks.metrics.entities import counts, entities


def by_scikit_learn(gold, guess, classes):
    average = "binary" if classes == 2 else "macro"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small resample may hold one class only
        return {
            "accuracy": sklearn.metrics.accuracy_score(gold, guess),
            "f1": sklearn.metrics.f1_score(gold, guess, average=average, zero_division=0),
            "matthews": sklearn.metrics.matthews_corrcoef(gold, guess),
        }


@settings(max_examples=30)
@given(seed=st.integers(0, 9999), classes=st.integers(2, 6), examples=st.integers(2, 60))
def test_resampled_scores_are_the_libraries_on_the_resample(seed, classes, examples):
    draw = np.random.default_rng(seed)
    gold, guess = draw.integers(0, classes, (2, examples))
    guess = np.where(draw.random(examples) < 0.5, gold, guess)
    measures = classification.measures(gold, guess, classes)
    drawn = draw.integers(0, examples, (3, examples))
    for row in drawn:
        expected = by_scikit_learn(gold[row], guess[row], classes)
        for name, value in expected.items():
            assert measures[name].resampled(row[None])[0] == pytest.approx(value, abs=1e-12), name
    whole = np.arange(examples)[None]
    for name, measure in measures.items():
        assert measure.value == pytest.approx(measure.resampled(whole)[0], abs=1e-12), name
        assert measure.resampled(drawn).shape == (3,)


@settings(max_examples=25)
@given(seed=st.integers(0, 9999), examples=st.integers(3, 40))
def test_correlations_are_scipys_ties_included(seed, examples):
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, 4, examples).astype(float)
    gold[:2] = 0, 1
    guess = gold + draw.normal(size=examples).round(1)
    guess[0] = guess[1] + 1
    measures = correlation.measures(gold, guess)
    assert measures["pearson"].value == pytest.approx(scipy.stats.pearsonr(gold, guess).statistic)
    assert measures["spearman"].value == pytest.approx(scipy.stats.spearmanr(gold, guess).statistic)
    for measure in measures.values():
        assert measure.resampled(np.arange(examples)[None])[0] == pytest.approx(
            measure.value, abs=1e-9
        )


def test_a_model_that_always_answers_the_same_has_no_correlation():
    measures = correlation.measures(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    assert [measure.value for measure in measures.values()] == [0, 0]
    assert measures["spearman"].notes == {"constant_predictions": True}
    assert measures["spearman"].resampled(np.array([[0, 1, 2], [1, 1, 1]])).tolist() == [0, 0]
    classes = classification.measures(np.array([0, 1, 1, 0]), np.ones(4, dtype=np.int64), 2)
    assert classes["matthews"].value == 0
    assert classes["accuracy"].value == 0.5


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("I-PER I-PER", {("PER", 0, 2)}),
        ("B-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("B-PER E-PER I-PER", {("PER", 0, 2), ("PER", 2, 3)}),
        ("S-PER S-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("O X X O", {("X", 1, 2), ("X", 2, 3)}),
        ("B-A-B I-A-B", {("A-B", 0, 2)}),
    ],
)
def test_entities_by_hand(tags, expected):
    assert entities(tags.split(), "O") == expected


def test_half_an_entity_is_none():
    gold = ["B-PER", "I-PER", "O", "B-LOC"]
    assert counts(gold, ["B-PER", "O", "O", "B-LOC"], "O") == (1, 2, 2)
    assert counts(gold, ["O", "O", "O", "O"], "O") == (0, 2, 0)
    assert counts(["$KEEP", "$FIX"], ["$FIX", "$FIX"], "$KEEP") == (1, 1, 2)


@pytest.mark.parametrize(
    ("given_answer", "accepted", "exact", "f1"),
    [
        ("the Denver Broncos", ("Denver Broncos",), 1, 1),
        ("Denver Broncos!", ("Carolina Panthers", "denver  broncos"), 1, 1),
        ("Broncos", ("Denver Broncos",), 0, 2 / 3),
        ("Santa Clara, California", ("Levi's Stadium", "in Santa Clara"), 0, 2 / 3),
        ("a cat a cat", ("cat",), 0, 2 / 3),
        ("", (), 1, 1),
        ("something", (), 0, 0),
        ("", ("something",), 0, 0),
        ("the", ("a",), 1, 1),
    ],
)
def test_squad_scores_by_hand(given_answer, accepted, exact, f1):
    assert squad.exact_match(given_answer, accepted) == exact
    assert squad.f1(given_answer, accepted) == pytest.approx(f1)


def test_the_interval_of_a_mean_is_the_normal_one_for_many_examples():
    values = np.random.default_rng(0).normal(size=4000)
    low, high = bootstrap.interval(Measure.mean_of(values, "u").resampled, 4000)
    error = values.std(ddof=1) / np.sqrt(4000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert bootstrap.interval(Measure.mean_of(values, "u").resampled, 4000) == (low, high)


def test_a_paired_change_is_surer_than_two_intervals():
    draw = np.random.default_rng(0)
    before = draw.random(500)
    after = before - 0.01 + 0.001 * draw.normal(size=500)
    old, new = (Evaluation({"x": Measure.mean_of(scores, "u")}, {}) for scores in (before, after))
    change = new.change_from(old)["x"]
    assert change.value == pytest.approx(-0.01, abs=0.001)
    assert change.low < change.value < change.high < 0
    single = new.metrics()["x"]
    assert (change.high - change.low) < 0.1 * (single.high - single.low)
    assert single.low < single.value < single.high
    same = old.change_from(old)["x"]
    assert (same.low, same.value, same.high) == (0, 0, 0)
