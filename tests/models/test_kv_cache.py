import pytest
import torch
from tiny import MODEL_TYPES, single_query_heads, tiny
from transformers import DynamicCache

from numprune_export.models.kv_cache import cache_argument


@pytest.mark.parametrize("of", [tiny, single_query_heads])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_named_argument_is_read_and_filled(model_type, of, recwarn):
    model, tokens = of(model_type), torch.arange(1, 9)[None]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(tokens[:, :5], **{cache_argument(model): cache})
        assert cache.get_seq_length() == 5
        logits = model(tokens[:, 5:], **{cache_argument(model): cache}).logits
        torch.testing.assert_close(logits, model(tokens).logits[:, 5:], rtol=0, atol=1e-5)
    assert not [warning for warning in recwarn if warning.category is FutureWarning]


def test_a_model_without_a_cache_is_refused():
    with pytest.raises(ValueError, match=r"Linear\.forward"):
        cache_argument(torch.nn.Linear(1, 1))
