"""Tasks of encoders: labelled examples, losses and scores."""
