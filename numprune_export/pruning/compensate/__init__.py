"""What the kept inputs can do for the removed ones: one repair per file."""

from typing import Annotated

from pydantic import Field

from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.none import Nothing

Compensation = Annotated[ClosedForm | Bias | Nothing, Field(discriminator="method")]
"""Any of the repairs, told apart by `method`."""
