"""How much each input of a consumer matters: one method per file, higher is more worth keeping.

A method scores single inputs (columns of `o_proj` or `down_proj`); `allocate` averages them over
the columns of a unit, as the papers do for heads. `fisher_obs` gives an order of removal instead.
`estimates_loss` of a method: its values are changes of the loss, which compare and add up over heads and
neurons of all layers. Settings are read without torch: a method imports it where it computes.
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
"""Any of the methods, told apart by `method`."""
