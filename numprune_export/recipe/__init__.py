"""The recipe: one strict, versioned YAML file from model to verdict."""

from numprune_export.recipe.lookup import Named, builtin_dir, builtin_names, locate, named, runnable
from numprune_export.recipe.reading import load, parse
from numprune_export.recipe.schema import Benchmark, Parity, Recipe, dump, schema_json

__all__ = [
    "Benchmark", "Named", "Parity", "Recipe", "builtin_dir", "builtin_names", "dump", "load", "locate",
    "named", "parse", "runnable", "schema_json",
]  # fmt: skip
