"""A transformers model as an EncoderRunner, written for these tests alone."""

import numpy as np
import torch
from tiny_encoder import FAMILIES

from numprune_export.data.tasks.task import logits_of


class HuggingFaceRunner:
    def __init__(self, model):
        self.model, self.shapes = model, []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    @torch.no_grad()
    def forward(self, tokens, lengths=None, types=None):
        self.shapes.append(tokens.shape)
        real = torch.arange(tokens.shape[1]) < torch.from_numpy(np.asarray(lengths))[:, None]
        types = None if types is None else torch.from_numpy(types)
        named = FAMILIES[self.model.config.model_type].inputs(torch.from_numpy(tokens), real, types)
        logits = logits_of(self.model(**named)).numpy()
        if logits.ndim == 3:
            # Undefined by the contract: nothing may depend on it.
            logits[~real.numpy()] = np.nan
        return logits
