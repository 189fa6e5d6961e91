"""Llama 1, 2, 3 and models saved under its name (SmolLM2, TinyLlama, Vicuna, ...)."""

from numprune_export.models.decoder import RotaryDecoder

FAMILY = RotaryDecoder(
    "llama", "LlamaForCausalLM", output_bias_key="attention_bias", heads_divide_hidden=True
)
