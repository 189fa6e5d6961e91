"""Which class of transformers loads a model, by the name of the class that it is."""

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
        one for one in _AUTO if architecture.endswith(one.__name__.removeprefix("AutoModel"))
    )
