"""Calibration text that a model writes itself."""

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, tiny

from numprune_export.calibration import generated_text
from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.calibration.prompts import OPEN
from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows

STARTS = np.arange(3, 20, dtype=np.int64)[:, None]


def written(model, starts=STARTS, *, tokens=12, seed=3, tick=lambda _: None, **changes):
    settings = GeneratedText(**{"sequences": 5, "temperature": 1, "min_p": 0} | changes)
    return generated_text.write(model, starts, settings, tokens=tokens, seed=seed, tick=tick)


def test_windows_are_full_and_the_same_for_equal_seeds():
    model = tiny()
    first, second, other = written(model), written(model), written(model, seed=4)
    assert first.tokens.shape == (5, 12)
    assert not first.padded
    assert np.isin(first.tokens[:, 0], STARTS).all()
    assert (first.tokens == second.tokens).all()
    assert (first.tokens != other.tokens).any()


@pytest.mark.parametrize(
    ("family", "settings"),
    [*((name, {}) for name in MODEL_TYPES), ("mistral", {"sliding_window": 6})],
)
def test_a_token_follows_from_what_the_model_sees_before_it(family, settings):
    """A model sure of itself leaves nothing to chance: what is sampled is its greedy text."""
    model = tiny(family, **settings)
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(1e4 * head.weight.detach())
    tokens = torch.from_numpy(written(model, tokens=24).tokens)
    with torch.inference_mode():
        greedy = model(input_ids=tokens).logits.argmax(-1)
    assert (tokens[:, 1:] == greedy[:, :-1]).float().mean() > 0.95


def test_batches_are_ticked_token_by_token(monkeypatch):
    monkeypatch.setattr(generated_text, "WINDOWS", 2)
    ticks = []
    assert len(written(tiny(), tick=ticks.append).tokens) == 5
    assert sum(ticks) == 3 * 11


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_the_models_own_at_that_temperature(temperature):
    model = tiny()
    with torch.inference_mode():
        start = torch.from_numpy(STARTS[:1])
        wanted = (model(input_ids=start).logits[0, -1] / temperature).softmax(-1).numpy()
    tokens = written(
        model, STARTS[:1], sequences=4000, tokens=2, temperature=temperature, seed=0
    ).tokens[:, 1]
    counts = np.bincount(tokens, minlength=len(wanted)) / 4000
    assert np.abs(counts - wanted).max() < 4 * np.sqrt(wanted.max() / 4000)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_what_the_model_thinks_unlikely_is_never_written(temperature):
    model = tiny()
    with torch.inference_mode():
        sure = model(input_ids=torch.from_numpy(STARTS[:1])).logits[0, -1].softmax(-1)
    likely = {int(token) for token in torch.nonzero(sure >= 0.3 * sure.max())}
    tokens = written(
        model, STARTS[:1], sequences=500, tokens=2, temperature=temperature, min_p=0.3
    ).tokens[:, 1]
    assert set(tokens.tolist()) == likely
    assert 1 < len(likely) < len(sure) / 2


def test_a_text_goes_on_from_a_start_of_several_tokens():
    model, start = tiny(), np.array([[5, 6, 7, 8]], dtype=np.int64)
    ticks = []
    windows = written(model, start, tick=ticks.append, temperature=1e-4)
    assert (windows.tokens[:, :4] == start).all()
    assert sum(ticks) == 8
    with torch.inference_mode():
        greedy = model(input_ids=torch.from_numpy(windows.tokens)).logits.argmax(-1)
    assert (windows.tokens[:, 4:] == greedy[:, 3:-1].numpy()).mean() > 0.95


def test_starts_of_different_lengths_are_written_side_by_side():
    """What the model would say to a start is not written before the start has ended."""
    model, ticks = tiny(), []
    starts = np.array([[5, 6, 7, 8], [9, 10, OPEN, OPEN]], dtype=np.int64)
    tokens = written(model, starts, sequences=6, tick=ticks.append, temperature=1e-4).tokens
    assert sum(ticks) == 12 - 2
    with torch.inference_mode():
        greedy = model(input_ids=torch.from_numpy(tokens)).logits.argmax(-1).numpy()
    long, short = tokens[tokens[:, 0] == 5], tokens[tokens[:, 0] == 9]
    assert len(long) + len(short) == 6
    assert len(long) > 1
    assert len(short) > 1
    assert (long[:, :4] == starts[0]).all()
    assert (short[:, :2] == starts[1, :2]).all()
    assert (greedy[tokens[:, 0] == 5, :3] != long[:, 1:4]).any()
    assert (greedy[tokens[:, 0] == 5, 3:-1] == long[:, 4:]).mean() > 0.95
    assert (greedy[tokens[:, 0] == 9, 1:-1] == short[:, 2:]).mean() > 0.95


def test_several_texts_fill_a_window_each_from_a_start_of_its_own():
    model, start, ticks = tiny(), np.array([[5, 6]], dtype=np.int64), []
    windows = written(model, start, per_window=3, tokens=16, tick=ticks.append, temperature=1e-4)
    assert windows.tokens.shape == (5, 16)
    assert not windows.padded
    assert sum(ticks) == 6 - 2  # texts of 6 tokens, the last of a window cut
    for begin in (0, 6, 12):
        text = windows.tokens[:, begin : begin + 6]
        assert (text[:, :2] == start).all()
        with torch.inference_mode():
            greedy = model(input_ids=torch.from_numpy(text.copy())).logits.argmax(-1)
        assert (text[:, 2:] == greedy[:, 1:-1].numpy()).mean() > 0.95


def test_logits_that_are_no_numbers_are_said():
    model = tiny()
    model.get_output_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(NumericalError, match="are not finite while it generates"):
        written(model)


def test_any_first_few_hold_both_kinds_in_their_proportion():
    own = Windows(np.zeros((8, 3), np.int64), np.full(8, 2))
    others = Windows(np.ones((4, 5), np.int64), np.full(4, 5))
    mixed = generated_text.among(own, others)
    assert mixed.tokens.shape == (12, 5)
    kind = mixed.tokens[:, 0]
    assert [int(kind[:n].sum()) for n in (3, 6, 9, 12)] == [1, 2, 3, 4]
    assert (mixed.lengths == np.where(kind == 1, 5, 2)).all()


def drawn(logits, share, monkeypatch, **changes):
    """What is drawn from each row with this number between 0 and 1."""
    shares = torch.full((len(logits),), share, dtype=torch.float64)
    monkeypatch.setattr(generated_text.torch, "rand", lambda *_, **__: shares)
    settings = GeneratedText(**{"temperature": 1, "min_p": 0} | changes)
    return generated_text._drawn(torch.tensor(logits), settings, torch.Generator())[:, 0].tolist()


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2**-53])
def test_no_rounding_draws_what_has_no_probability(share, monkeypatch):
    """Nor a word of the row before or after."""
    never, seldom = -float("inf"), -40.0
    rows = [
        [never, 0.0, never, never],
        [never, never, 30.0, never],
        [0.0, seldom, never, never],
        [never, never, never, -7.0],
    ]
    assert drawn(rows, share, monkeypatch) == [1, 2, 0, 3]


def test_a_word_exactly_as_likely_as_asked_can_be_drawn(monkeypatch):
    rows = [[9.0, 9.0 + float(np.log(0.25)), 9.0 + float(np.log(0.24))]]
    assert drawn(rows, 1 - 2**-53, monkeypatch, min_p=0.25) == [1]
    assert drawn(rows, 0.81, monkeypatch, min_p=0.25) == [1]  # 1 of the 1.25 that are left
    assert drawn(rows, 0.79, monkeypatch, min_p=0.25) == [0]
