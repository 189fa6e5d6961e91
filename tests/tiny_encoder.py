"""Small random encoders of every family and task, built from a config: nothing is downloaded."""

import torch
import transformers

from numprune_export.models.families import bert, distilbert, roberta

FAMILIES = {module.FAMILY.model_type: module.FAMILY for module in (bert, distilbert, roberta)}
TASKS = ("sequence", "token", "span")
LABELS = 5
HEADS = 4
NEURONS = 48
VOCABULARY = 101


def tiny_encoder(model_type="bert", task="sequence", seed=0, **overrides):
    """Three layers of 4 heads of width 8 and 48 neurons, fp32, in eval mode; weights large enough
    that every part matters."""
    sizes = {
        "distilbert": {"dim": 32, "n_layers": 3, "n_heads": HEADS, "hidden_dim": NEURONS},
    }.get(
        model_type,
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": HEADS,
            "intermediate_size": NEURONS,
        },
    )
    settings = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 66 if model_type == "roberta" else 64,
        "pad_token_id": 1 if model_type == "roberta" else 0,
        "num_labels": 2 if task == "span" else LABELS,
    }
    config = transformers.AutoConfig.for_model(model_type, **(sizes | settings | overrides))
    head = next(candidate for candidate in FAMILIES[model_type].heads if candidate.task == task)
    torch.manual_seed(seed)
    kind = getattr(transformers, head.architecture)
    model = kind._from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(1.0 if "norm" in name.lower() and "weight" in name else 0.0, 0.2)
    return model.eval()


def uneven_encoder(model_type="bert", task="sequence", seed=0, **overrides):
    """Widths that differ by layer: heads (3, 1, 2), neurons (24, 7, 33). Cut without the code under
    test."""
    model = tiny_encoder(model_type, task, seed, **overrides)
    family = FAMILIES[model_type]
    heads = ([0, 2, 3], [1], [0, 3])
    neurons = (list(range(0, 48, 2)), list(range(7)), [0, 5, *range(10, 41)])
    for block, kept, units in zip(family.block_list(model), heads, neurons, strict=True):
        rows = [8 * head + i for head in kept for i in range(8)]
        for path, rows_kept, columns in (
            (family.query, rows, None),
            (family.key, rows, None),
            (family.value, rows, None),
            (family.attention_output, None, rows),
            (family.up, units, None),
            (family.down, None, units),
        ):
            _cut(block.get_submodule(path), rows_kept, columns)
        for name, counts_columns in family.head_attributes.items():
            value = len(rows) if counts_columns else len(kept)
            setattr(block.get_submodule(family.self_attention), name, value)
    return model


def _cut(linear, rows, columns):
    weight = linear.weight.detach()
    if rows is not None:
        linear.weight = torch.nn.Parameter(weight[rows].clone())
        linear.bias = torch.nn.Parameter(linear.bias.detach()[rows].clone())
    else:
        linear.weight = torch.nn.Parameter(weight[:, columns].clone())
    linear.out_features, linear.in_features = linear.weight.shape
