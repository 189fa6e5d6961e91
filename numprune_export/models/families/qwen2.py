"""Qwen2 and Qwen2.5: the Llama block with biases on q, k and v."""

from numprune_export.models.decoder import RotaryDecoder

FAMILY = RotaryDecoder("qwen2", "Qwen2ForCausalLM")
