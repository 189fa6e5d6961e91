"""Block-by-block Fisher information against one backward pass through the whole model."""

import numpy as np
import pytest
import torch
from emptied import EMPTIED, emptied_encoder
from tiny import MODEL_TYPES, tiny, uneven
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import TASKS, tiny_encoder, uneven_encoder
from whole_backward import (
    LENGTHS,
    assert_same,
    gather,
    gather_decoder,
    labelled,
    next_token_nats,
    texts,
    whole,
)

from numprune_export.calibration.gradients import losses, output_fisher
from numprune_export.calibration.gradients.losses import OwnPredictions
from numprune_export.calibration.store import read_output_fisher, write_output_fisher
from numprune_export.data.corpus import Windows
from numprune_export.models.families import DECODERS


@pytest.mark.parametrize("make", [tiny, uneven])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_decoders_fisher_is_that_of_a_backward_pass_through_all_of_it(model_type, make):
    family, model, windows = DECODERS[model_type], make(model_type), texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    assert len(expected) == 6
    assert_same(gather_decoder(model, family, windows), expected)


def test_layers_with_masks_of_their_own():
    family = DECODERS["qwen2"]
    model = tiny(
        "qwen2",
        sliding_window=3,
        use_sliding_window=True,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    )
    windows = texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    assert_same(gather_decoder(model, family, windows), expected)


@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder])
@pytest.mark.parametrize(
    ("model_type", "task"),
    [("bert", task_name) for task_name in TASKS]
    + [("roberta", "token"), ("roberta", "sequence"), ("distilbert", "sequence")]
    + [("distilbert", "span")],
)
def test_an_encoders_fisher_is_that_of_a_backward_pass_through_all_of_it(model_type, task, make):
    family, model = ENCODERS[model_type], make(model_type, task)
    windows = texts(model.config.pad_token_id)
    loss, labels, of_row = labelled(task, windows)
    expected = whole(model, family, windows, of_row)
    assert len(expected) == 6
    assert_same(gather(model, family, windows, loss, labels, batch=4), expected)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_emptied_sublayers_have_no_fisher_and_let_gradients_through(model_type):
    family, model = ENCODERS[model_type], emptied_encoder(model_type)
    windows = texts(model.config.pad_token_id)
    loss, labels, of_row = labelled("sequence", windows)
    expected = whole(model, family, windows, of_row)
    assert expected.keys() == {"layers.0.mlp", "layers.1.attention"}
    assert len(EMPTIED) + len(expected) == 6
    assert_same(gather(model, family, windows, loss, labels), expected)


def test_padding_has_no_effect():
    family, model = ENCODERS["bert"], tiny_encoder("bert", "token")
    short, long = (
        gather(model, family, windows, *labelled("token", windows)[:2], batch=6)
        for windows in (texts(), texts(length=15))
    )
    assert_same(long, short)
    decoder = tiny()
    other = texts(pad=50, length=15)
    assert_same(
        gather_decoder(decoder, DECODERS["llama"], other),
        gather_decoder(decoder, DECODERS["llama"], texts()),
    )


def test_batches_change_nothing():
    family, model, windows = DECODERS["llama"], tiny(), texts()
    fishers = gather_decoder(model, family, windows, batch=6)
    for batch in (1, 4):
        assert_same(gather_decoder(model, family, windows, batch=batch), fishers)


@pytest.mark.parametrize("rounds", ["all batches", "one batch"])
def test_residual_streams_are_kept_of_all_batches_or_of_one(rounds, monkeypatch):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    expected = whole(model, family, windows, next_token_nats(windows))
    batches = windows.by_length(2)
    split = [batches] if rounds == "all batches" else [[batch] for batch in batches]
    monkeypatch.setattr(output_fisher, "_rounds", lambda *_: split)
    assert_same(gather_decoder(model, family, windows), expected)


def test_what_is_kept_is_what_takes_less_memory():
    family, model = DECODERS["llama"], tiny()
    windows = texts(lengths=np.full(6, 9))
    # 3 blocks · 54 tokens · 64 · 4 bytes against 6 sites · 64 · 64 · 8 bytes.
    assert len(output_fisher._rounds(model, family, windows, 2)) == 1
    many = Windows(windows.tokens.repeat(5, 0), windows.lengths.repeat(5))
    assert len(output_fisher._rounds(model, family, many, 2)) == 15


@pytest.mark.parametrize("positions", [1, 4, 8])
def test_the_head_sees_some_positions_at_a_time(positions, monkeypatch):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    seen = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    whole_head = gather_decoder(model, family, windows, batch=3)
    assert seen == [(3, 9, 64), (3, 5, 64)]
    seen.clear()
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", positions * 3 * 97)
    assert_same(gather_decoder(model, family, windows, batch=3), whole_head)
    assert {shape[1] for shape in seen} <= {positions, 9 % positions, 5 % positions}
    assert len(seen) == -(-9 // positions) - (-5 // positions)


def test_own_predictions_of_a_regression_give_the_fisher_of_its_answers_slope():
    family, model = ENCODERS["bert"], tiny_encoder("bert", num_labels=1)
    windows = texts()
    real = torch.arange(9) < torch.from_numpy(LENGTHS)[:, None]
    own = OwnPredictions("sequence", torch.Generator().manual_seed(3))
    expected = whole(model, family, windows, lambda answer, _: answer.logits[0, 0])
    assert_same(gather(model, family, windows, own, real), expected)


def test_the_folder_keeps_it_bit_by_bit(tmp_path):
    family, model, windows = DECODERS["llama"], tiny(), texts()
    fisher = gather_decoder(model, family, windows)
    site = family.sites(model)[3]
    assert read_output_fisher(tmp_path, site) is None
    write_output_fisher(tmp_path, fisher)
    assert torch.equal(read_output_fisher(tmp_path, site), fisher[site.name])
