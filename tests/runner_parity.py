"""A runner beside PyTorch: padded prompts, every position, decode steps, greedy tokens."""

import copy

import numpy as np
import torch

LENGTHS = np.array([5, 9, 3])


def largest_error(runner, model, *, lengths=LENGTHS, steps=6):
    """Largest difference of any logit; the prompt is one token wider than its longest row."""
    prompt, teacher, expected = teacher_forced(model, lengths, steps)
    errors = []
    for _ in range(2):  # the second prompt must find nothing of the first
        every = runner.prefill(prompt, lengths, all_positions=True)
        last = runner.prefill(prompt, lengths)
        for row, n in enumerate(lengths):
            errors += [every[row, :n] - expected[row][:n], last[row] - expected[row][n - 1]]
        for step in range(steps):
            logits = runner.decode(teacher[:, step])
            errors += [logits[row] - expected[row][n + step] for row, n in enumerate(lengths)]
    return max(float(np.abs(error).max()) for error in errors)


def rounding_error(model, dtype, *, lengths=LENGTHS, steps=6):
    """Largest difference that PyTorch itself makes by computing the same in `dtype`."""
    _, _, exact = teacher_forced(model, lengths, steps)
    rounded = copy.deepcopy(model).to(getattr(torch, dtype))
    _, _, logits = teacher_forced(rounded, lengths, steps)
    return max(float(np.abs(a - b).max()) for a, b in zip(logits, exact, strict=True))


def teacher_forced(model, lengths, steps):
    """Padded prompts, the tokens that follow them, and PyTorch's logits of each whole row."""
    random = np.random.default_rng(0)
    vocabulary = model.config.vocab_size
    prompt = random.integers(0, vocabulary, (len(lengths), lengths.max() + 1))
    teacher = random.integers(0, vocabulary, (len(lengths), steps))
    rows = [
        forward(model, np.concatenate([row[:n], rest]))
        for row, n, rest in zip(prompt, lengths, teacher, strict=True)
    ]
    return prompt, teacher, rows


def forward(model, tokens):
    """PyTorch's logits of one sequence, (length, vocabulary), fp32."""
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens)[None].to(model.device)).logits
    return logits[0].float().cpu().numpy()


def greedy(runner, prompt, steps):
    """Tokens that a runner goes on with, (batch, steps)."""
    logits = runner.prefill(prompt)
    tokens = []
    for _ in range(steps):
        tokens.append(logits.argmax(-1))
        logits = runner.decode(tokens[-1])
    return np.stack(tokens, axis=1)


def greedy_pytorch(model, prompt, steps):
    """The same by PyTorch, without a cache."""
    tokens = prompt
    for _ in range(steps):
        last = np.stack([forward(model, row)[-1] for row in tokens])
        tokens = np.concatenate([tokens, last.argmax(-1)[:, None]], axis=1)
    return tokens[:, prompt.shape[1] :]
