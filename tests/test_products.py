"""How exactly products are computed, and where."""

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from numprune_export.products import ExactAttention, products


class Watch(TorchFunctionMode):
    """Notes the precision that each function is called under."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen[func] = torch.get_float32_matmul_precision()
        return func(*args, **(kwargs or {}))


def test_only_attention_is_exact():
    with products("medium"), Watch() as watch, ExactAttention():
        x = torch.ones(1, 1, 2, 4)
        linear(x, torch.ones(3, 4))
        found = scaled_dot_product_attention(x, x, value=x)
        assert torch.get_float32_matmul_precision() == "medium"
    assert (watch.seen[scaled_dot_product_attention], watch.seen[linear]) == ("highest", "medium")
    assert torch.equal(found, x)


def test_the_precision_before_is_back_after_an_error():
    before = torch.get_float32_matmul_precision()
    try:
        with products("medium"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_float32_matmul_precision() == before
