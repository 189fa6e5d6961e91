"""Scores of a consumer's inputs: one method per file; higher is kept first.

A method scores single inputs (columns of `o_proj` or `down_proj`); `allocate` averages them over
the columns of a unit, as the papers do for heads. `fisher_obs` returns a removal order instead. If
`estimates_loss` is true, scores are changes of the loss, which are comparable and additive over
heads and neurons of all layers. Settings are read without torch: a method imports torch where it
computes.
"""

from typing import Annotated

from pydantic import Field

from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import FisherObs
from numprune_export.pruning.score.flap import Flap
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.pruning.score.random import Random
from numprune_export.pruning.score.stat import Stat
from numprune_export.pruning.score.wanda import Wanda

Score = Annotated[
    Numerical | Wanda | Flap | Fisher | FisherObs | Stat | Magnitude | Random,
    Field(discriminator="method"),
]
"""Any scoring method, selected by `method`."""
