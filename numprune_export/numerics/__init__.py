"""Linear algebra on tensors: Gram matrices, and solvers that rounding does not stop."""
