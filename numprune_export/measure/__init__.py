"""Measurements of a model and its exports, one room per kind of metric."""
