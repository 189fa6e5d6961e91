"""BERT and models saved under its name (MiniLM, TinyBERT, many sentence encoders)."""

from numprune_export.models.encoder import BidirectionalEncoder, TaskHead

FAMILY = BidirectionalEncoder(
    model_type="bert",
    heads=(
        TaskHead(
            "sequence", "BertForSequenceClassification", "classifier", "bert.pooler.dense", "tanh"
        ),
        TaskHead("token", "BertForTokenClassification", "classifier"),
        TaskHead("span", "BertForQuestionAnswering", "qa_outputs"),
    ),
    trunk="bert",
    blocks="bert.encoder.layer",
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
    positions_follow_padding=False,
)
