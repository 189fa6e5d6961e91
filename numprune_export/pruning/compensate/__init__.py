"""Compensation of removed units by the kept ones: one method per file."""

from typing import Annotated

from pydantic import Field

from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.none import Nothing

Compensation = Annotated[ClosedForm | Bias | Nothing, Field(discriminator="method")]
"""Any compensation method, selected by `method`."""
