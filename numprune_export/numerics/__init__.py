"""Linear algebra on tensors: Gram matrices, and solvers that tolerate rounding."""
