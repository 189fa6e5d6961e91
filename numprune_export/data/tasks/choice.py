"""Select the task of a model's head."""

from typing import Any

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.data.labelled.labels import Classes
from numprune_export.data.tasks.sequence_task import SequenceTask
from numprune_export.data.tasks.span_task import SpanTask
from numprune_export.data.tasks.task import Task
from numprune_export.data.tasks.token_task import TokenTask
from numprune_export.export.encoder import Task as Kind


def task_of(kind: Kind, config: Any) -> Task:
    """The task of a model with this kind of head, with the classes of its config.

    Raises:
        UnsupportedModelError: the head predicts several labels per text.
    """
    problem = getattr(config, "problem_type", None)
    if kind == "span":
        return SpanTask()
    if kind == "token":
        return TokenTask(Classes.of(config))
    if problem == "multi_label_classification":
        raise UnsupportedModelError(
            "`problem_type: multi_label_classification` is not supported",
            hint="give a model that predicts one class or one number per text",
        )
    regression = problem == "regression" or (problem is None and config.num_labels == 1)
    return SequenceTask(Classes.of(config), regression)
