"""What differs between kinds of models: causal language models, encoders with a task."""
