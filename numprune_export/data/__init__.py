"""Texts and labelled examples: where they come from, how they are cut, what a task makes of them."""
