"""RoBERTa: BERT's blocks, positions offset by the padding token, a two-layer head."""

from numprune_export.models.encoder import BidirectionalEncoder, TaskHead

FAMILY = BidirectionalEncoder(
    model_type="roberta",
    heads=(
        TaskHead(
            "sequence",
            "RobertaForSequenceClassification",
            "classifier.out_proj",
            "classifier.dense",
            "tanh",
        ),
        TaskHead("token", "RobertaForTokenClassification", "classifier"),
        TaskHead("span", "RobertaForQuestionAnswering", "qa_outputs"),
    ),
    trunk="roberta",
    blocks="roberta.encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    mlp_norm="output.LayerNorm",
    self_attention="attention.self",
    head_attributes={"num_attention_heads": False, "all_head_size": True},
    activation_key="hidden_act",
    neurons_key="intermediate_size",
    token_types=True,
    positions_follow_padding=True,
)
