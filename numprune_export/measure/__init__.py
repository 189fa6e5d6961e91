"""Measurements of a model and its exports, one package per kind of metric."""
