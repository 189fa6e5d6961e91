"""Qwen3: the Llama block with an RMSNorm over each query and key head before the rotation."""

from numprune_export.models.decoder import RotaryDecoder

FAMILY = RotaryDecoder("qwen3", "Qwen3ForCausalLM", qk_norm=True, output_bias_key="attention_bias")
