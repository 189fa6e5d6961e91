"""Keys of version 0.1 are taken under their old names, each with a notice."""

import pytest

from numprune_export.core.errors import RecipeError
from numprune_export.recipe import aliases, parse

TEXTS = {"texts": ["a.txt"]}
BASE = {"version": 1, "model": "m", "calibration": TEXTS, "evaluation": TEXTS, "method": "best"}
OLD = BASE | {
    "products": "highest",
    "self_calibration": {"sequences": 4, "starts": "vocabulary"},
    "score": {"every": 3},
    "compensate": {"every": 2, "producers": {"every": 4, "spared_every": 5}},
}
NEW = BASE | {
    "matmul_precision": "highest",
    "generated_text": {"sequences": 4, "prompts": "vocabulary"},
    "score": {"token_stride": 3},
    "compensate": {
        "token_stride": 2,
        "producers": {"token_stride": 4, "spared_token_stride": 5},
    },
}


def test_old_keys_mean_the_same():
    assert parse(OLD, "old.yaml") == parse(NEW, "new.yaml")
    assert parse(BASE | {"self_calibration": 8}, "old.yaml").generated_text.sequences == 8


def test_every_old_key_is_named_once_and_the_content_stays():
    before = repr(OLD)
    told = list(aliases.notices(OLD))
    assert repr(OLD) == before
    assert len(told) == len(aliases.RENAMED)
    assert told[0] == (
        "`products` is now called `matmul_precision`; the old name works until version 0.3"
    )
    assert not list(aliases.notices(NEW))


def test_a_setting_under_both_names_is_refused():
    both = NEW | {"products": "high"}
    with pytest.raises(RecipeError, match="`products` and `matmul_precision` are the same"):
        parse(both, "both.yaml")
