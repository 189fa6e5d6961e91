"""The shipped tiny models in memory, and each pruned once for all tests here."""

import pytest
from live import FAST, TEXTS, tiny_llama

import numprune_export as ne


@pytest.fixture(scope="session")
def dense():
    return tiny_llama()


@pytest.fixture(scope="session")
def pruned(dense):
    """By `fast`, uneven widths, single query heads: what no stock class can express."""
    model, tokenizer = dense
    chosen = {**FAST, "query_heads": "single"}
    return ne.prune(model, tokenizer, TEXTS, keep=0.7, method="fast", settings=chosen)
