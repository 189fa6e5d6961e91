"""GGUF files as llama.cpp writes them, of small models."""

import gguf
import numpy as np

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WORDS = ["<pad>", "<s>", "</s>", *(chr(ord("!") + index) for index in range(93)), "!#"]


def write(path, model=None, *, architecture="llama", words=True, extra=(), tensors=()):
    """A llama.cpp file of `model`, or of no model at all."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in extra:
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    if model is not None:
        add_settings(writer, model.config)
        for name, value in model.state_dict().items():
            if name != "lm_head.weight" or not model.config.tie_word_embeddings:
                writer.add_tensor(*llama_cpp(name, value, model.config))
    if words:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(WORDS)
        writer.add_token_types([3, 3, 3, *[1] * 94])
        writer.add_token_merges(["! #"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    for name in tensors:
        writer.add_tensor(name, np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_settings(writer, config):
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_key_length(config.head_dim)


def llama_cpp(name, value, config):
    """Name and layout in llama.cpp: rotary halves of each head interleaved in q and k."""
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, layer, inner = module.split(".", 3)
        new = f"blk.{layer}.{NAMES[inner]}.{kind}"
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        if config.model_type in ("llama", "mistral") and inner[10:] in heads:
            split = value.reshape(heads[inner[10:]], 2, -1, *value.shape[1:])
            value = split.transpose(1, 2).reshape(value.shape)
        return new, value.numpy()
    return f"{NAMES[module]}.{kind}", value.numpy()
