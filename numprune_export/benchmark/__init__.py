"""What a smaller model gains: latency, memory, and the cost that bounds the gain."""
