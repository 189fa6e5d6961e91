"""The shipped tiny Llama in memory, and settings that prune it in a second."""

from transformers import AutoModelForCausalLM, AutoTokenizer

from numprune_export.recipe import builtin_dir

TEXTS = builtin_dir() / "data" / "sotu_2011_2021.txt"
FAST = {"calibration.sequences": 16, "calibration.tokens_per_sequence": 64}


def tiny_llama():
    folder = builtin_dir() / "tiny-llama"
    return (
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval(),
        AutoTokenizer.from_pretrained(folder),
    )
