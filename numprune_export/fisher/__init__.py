"""Pruning by the loss's curvature in unit masks (Kwon et al. 2022, arXiv:2204.09656).

    gradients       of every unit's mask, per batch or per example
    macs            what one unit costs
    search          the plan worth most under a budget of multiply-accumulates, parameters or bytes
    latency_table   milliseconds of a sublayer by its width, and curves through them
    latency_search  the plan worth most under a budget of milliseconds
    rearrange       which units of a layer go, seen together
    tuning          what the units that stay are scaled by, or refitted to

All of it is arithmetic on tensors and plans. Nothing here writes files or knows a recipe.
"""
