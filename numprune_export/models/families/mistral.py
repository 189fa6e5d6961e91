"""Mistral 7B: the Llama block with an optional sliding window; its config takes any head count."""

from numprune_export.models.decoder import RotaryDecoder

FAMILY = RotaryDecoder("mistral", "MistralForCausalLM")
