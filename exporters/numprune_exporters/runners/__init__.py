"""Input checks of runners, and the steps of a graph with a KV cache."""
