"""Tuning a small model on a few padded texts."""

import torch

from numprune_export.data.corpus import Windows
from numprune_export.pruning.compensate.distill_layers import tune

LENGTHS = torch.tensor([9, 4, 7, 2, 8, 5])


REAL = torch.arange(9) < LENGTHS[:, None]


def texts(pad=0):
    tokens = torch.randint(3, 97, (6, 9), generator=torch.Generator().manual_seed(0))
    return Windows(torch.where(REAL, tokens, pad).numpy(), LENGTHS.numpy())


def run(student, teacher, family, method, pad=0):
    ticks = []
    small, record = tune(student, teacher, family, texts(pad), method, batch=4, tick=ticks.append)
    assert ticks == [4, 2] * len(family.block_list(student))
    return small, {tuned.site: tuned for tuned in record}


@torch.no_grad()
def distance(student, teacher, family):
    """Between the last hidden states of real tokens."""
    inputs = family.inputs(torch.from_numpy(texts(teacher.config.pad_token_id).tokens), REAL, None)
    last = [
        model.get_submodule(family.trunk)(**inputs).last_hidden_state[REAL]
        for model in (student, teacher)
    ]
    return float((last[0] - last[1]).square().sum())
