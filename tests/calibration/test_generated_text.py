"""Calibration text that a model writes itself."""

import numpy as np
import pytest
import torch
from pretended import DEVICE, pretended
from tiny import MODEL_TYPES, tiny

from numprune_export.calibration import generated_text
from numprune_export.calibration.generated_text import READING
from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.calibration.prompts import OPEN
from numprune_export.calibration.sampling import sampled
from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models.device import placed

STARTS = np.arange(3, 20, dtype=np.int64)[:, None]


def written(model, starts=STARTS, *, tokens=12, rows=64, tick=lambda _: None, **changes):
    asked = {"sequences": 5, "temperature": 1, "min_p": 0, "seed": 3} | changes
    seed = asked.pop("seed")
    return generated_text.write(
        model, starts, GeneratedText(**asked), tokens=tokens, seed=seed, rows=rows, tick=tick
    )


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


def test_the_number_of_texts_at_once_does_not_change_them():
    model, ticks = tiny(), []
    few = written(model, rows=2, tick=ticks.append)
    assert sum(ticks) == 11 * (3 * READING + 5)
    assert (few.tokens == written(model).tokens).all()


@pytest.mark.parametrize(
    ("free", "rows"),
    [(None, 64), (float("inf"), 40), (25, 20), (15, 14), (10, 10), (9.9, 8), (0.1, 1)],
)
def test_as_many_texts_are_generated_at_once_as_have_room(free, rows):
    """In batches of equal size: 40 texts of 1 byte each."""
    assert generated_text.at_once(GeneratedText(sequences=20, per_window=2), free, 1) == rows


def test_a_device_is_waited_for_once_in_32_tokens_and_writes_what_the_cpu_writes():
    model = tiny()
    expected = written(model, tokens=100, sequences=2, min_p=0.05)
    with pretended() as ledger:
        there = placed(model, DEVICE, torch.float32)
        ledger.restart()
        got = written(there, tokens=100, sequences=2, min_p=0.05)
    assert (got.tokens == expected.tokens).mean() > 0.95
    assert sum(ledger.waits.values()) <= 100 / 32 + 2, ledger.waits
    assert sum(ledger.to_host.values()) <= got.tokens.nbytes + 8, ledger.to_host
    # Prompts and random numbers, once.
    assert sum(ledger.to_device.values()) <= 2 * got.tokens.nbytes, ledger.to_device
    assert not ledger.indices


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
    assert sum(ticks) == 8 * (READING + 5)
    with torch.inference_mode():
        greedy = model(input_ids=torch.from_numpy(windows.tokens)).logits.argmax(-1)
    assert (windows.tokens[:, 4:] == greedy[:, 3:-1].numpy()).mean() > 0.95


def test_starts_of_different_lengths_are_written_side_by_side():
    """What the model would say to a start is not written before the start has ended."""
    model, ticks = tiny(), []
    starts = np.array([[5, 6, 7, 8], [9, 10, OPEN, OPEN]], dtype=np.int64)
    tokens = written(model, starts, sequences=6, tick=ticks.append, temperature=1e-4).tokens
    assert sum(ticks) == (12 - 2) * (READING + 6)
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
    assert sum(ticks) == (6 - 2) * (READING + 15)  # texts of 6 tokens, the last of a window cut
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
    with pretended(), pytest.raises(NumericalError, match="are not finite while it generates"):
        written(placed(model, DEVICE, torch.float32))


def test_any_first_few_hold_both_kinds_in_their_proportion():
    own = Windows(np.zeros((8, 3), np.int64), np.full(8, 2))
    others = Windows(np.ones((4, 5), np.int64), np.full(4, 5))
    mixed = generated_text.among(own, others)
    assert mixed.tokens.shape == (12, 5)
    kind = mixed.tokens[:, 0]
    assert [int(kind[:n].sum()) for n in (3, 6, 9, 12)] == [1, 2, 3, 4]
    assert (mixed.lengths == np.where(kind == 1, 5, 2)).all()


def drawn(logits, share, **changes):
    """What is drawn from each row with this number between 0 and 1, on the CPU as on a device."""
    rows = torch.tensor(logits)
    shares = torch.full((len(rows),), share, dtype=torch.float64)
    settings = GeneratedText(**{"temperature": 1, "min_p": 0} | changes)
    here = sampled(rows, rows.amax(-1, keepdim=True), shares, settings)
    with pretended():
        rows, shares = rows.to(DEVICE), shares.to(DEVICE)
        there = sampled(rows, rows.amax(-1, keepdim=True), shares, settings)
    assert torch.equal(here, there.cpu())
    return here[:, 0].tolist()


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2**-53])
def test_no_rounding_draws_what_has_no_probability(share):
    """Nor a word of the row before or after."""
    never, seldom = -float("inf"), -40.0
    rows = [
        [never, 0.0, never, never],
        [never, never, 30.0, never],
        [0.0, seldom, never, never],
        [never, never, never, -7.0],
    ]
    assert drawn(rows, share) == [1, 2, 0, 3]


def test_a_word_exactly_as_likely_as_asked_can_be_drawn():
    rows = [[9.0, 9.0 + float(np.log(0.25)), 9.0 + float(np.log(0.24))]]
    assert drawn(rows, 1 - 2**-53, min_p=0.25) == [1]
    assert drawn(rows, 0.81, min_p=0.25) == [1]  # 1 of the 1.25 that are left
    assert drawn(rows, 0.79, min_p=0.25) == [0]
