"""ONNX Runtime's names of types, and what numpy and ONNX call them."""

import numpy as np

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""Those that numpy has too."""

ELEMENT_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}
"""Numbers of TensorProto.DataType."""
