"""ONNX Runtime's names of the types that numpy has too."""

import numpy as np

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
