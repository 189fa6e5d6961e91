"""Gradients of the loss on calibration data: of masks, and of sublayers' outputs."""
