"""The `trt` and `trt-rtx` targets: an engine built from the slot graph, and what runs it."""
