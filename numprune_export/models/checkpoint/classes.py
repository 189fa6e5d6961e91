"""The auto class of transformers that loads a model class."""

from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

_AUTO = (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)


def auto_class(architecture: str) -> Any:
    """AutoModelForTokenClassification for `BertForTokenClassification`, and so on."""
    return next(
        cls for cls in _AUTO if architecture.endswith(cls.__name__.removeprefix("AutoModel"))
    )
