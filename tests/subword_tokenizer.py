"""A WordPiece tokenizer in BERT's manner, made on the spot: letters are pieces of their own."""

import string

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WHOLE = ("the", "people", "union", "state", "work", "good", "bad", "is", "of", "city", "where")
PIECES = tuple(f"##{letter}" for letter in string.ascii_lowercase)
VOCABULARY = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *WHOLE,
    *string.ascii_lowercase,
    *PIECES,
    ".",
    ",",
)


def subword_tokenizer(**settings):
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **settings,
    )
