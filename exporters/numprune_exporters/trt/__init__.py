"""The `trt` and `trt-rtx` targets: engines built from the slot graph, and their runner."""
