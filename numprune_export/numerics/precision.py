"""Matmul precisions that a recipe can name."""

from typing import Literal

Precision = Literal["highest", "high", "medium", "bfloat16", "auto"]
"""Precision of fp32 matmuls. `highest`, `high`, `medium`: as in
`torch.set_float32_matmul_precision`. `bfloat16`: linear layers multiply bfloat16 and accumulate in
fp32; all other matmuls as in `medium`. `auto`: `bfloat16` on processors with bfloat16 instructions,
else `medium`."""
