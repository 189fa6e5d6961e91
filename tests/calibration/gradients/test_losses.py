"""The loss of next tokens."""

from types import SimpleNamespace

import numpy as np
import torch

from numprune_export.calibration.gradients.losses import next_token_loss, next_tokens
from numprune_export.data.corpus import Windows


def test_next_tokens_end_with_the_window():
    windows = Windows(np.array([[5, 6, 7, 0], [8, 9, 3, 4], [2, 0, 0, 0]]), np.array([3, 4, 1]))
    assert next_tokens(windows).tolist() == [
        [6, 7, -100, -100],
        [9, 3, 4, -100],
        [-100, -100, -100, -100],
    ]


def test_next_token_loss_is_a_sum_in_nats():
    logits = torch.zeros(2, 3, 97)
    following = torch.tensor([[4, 5, -100], [6, -100, -100]])
    losses = next_token_loss(SimpleNamespace(logits=logits), following)
    torch.testing.assert_close(losses, np.log(97) * torch.tensor([2.0, 1.0]))


def test_next_token_loss_of_half_precision_logits_is_computed_in_single_precision():
    logits = torch.randn(1, 3, 97, generator=torch.Generator().manual_seed(0)).bfloat16()
    following = torch.tensor([[4, 5, 6]])
    losses = next_token_loss(SimpleNamespace(logits=logits), following)
    exact = -logits[0].double().log_softmax(1)[range(3), following[0]].sum()
    torch.testing.assert_close(losses, exact[None].float(), rtol=1e-6, atol=0)
