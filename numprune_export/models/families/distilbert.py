"""DistilBERT: BERT's blocks under other names, no token types."""

from numprune_export.models.encoder import BidirectionalEncoder, TaskHead

FAMILY = BidirectionalEncoder(
    model_type="distilbert",
    heads=(
        TaskHead(
            "sequence",
            "DistilBertForSequenceClassification",
            "classifier",
            "pre_classifier",
            "relu",
        ),
        TaskHead("token", "DistilBertForTokenClassification", "classifier"),
        TaskHead("span", "DistilBertForQuestionAnswering", "qa_outputs"),
    ),
    trunk="distilbert",
    blocks="distilbert.transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attention_output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    mlp_norm="output_layer_norm",
    self_attention="attention",
    head_attributes={"n_heads": False, "dim": True},
    activation_key="activation",
    neurons_key="hidden_dim",
    token_types=False,
    positions_follow_padding=False,
)
