"""The precisions of fp32 matrix products that a recipe can name."""

from typing import Literal

Precision = Literal["highest", "high", "medium", "bfloat16", "auto"]
"""`highest`, `high`, `medium` as `torch.set_float32_matmul_precision`: fp32, or sums of products of
shorter numbers. `bfloat16`: layers multiply numbers of 8 bits and sum in fp32; every other product is as in
`medium`. `auto`: `bfloat16` where the processor has instructions for it, else `medium`."""
