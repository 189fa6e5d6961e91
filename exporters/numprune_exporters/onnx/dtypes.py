"""ONNX Runtime's type names, mapped to numpy and ONNX types."""

import numpy as np

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""Types that numpy has; it has no bfloat16."""

ELEMENT_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}
"""Values of TensorProto.DataType."""
