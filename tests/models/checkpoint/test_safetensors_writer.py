"""A written file is that of the safetensors library, and its hash is known."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from numprune_export.core.errors import OutputError
from numprune_export.models.checkpoint.safetensors_writer import write_safetensors

TENSORS = {
    "model.z": torch.arange(6.0).reshape(2, 3),
    "model.b": torch.arange(7).bfloat16(),
    "scalar": torch.tensor(3.0),
    "a": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
    'half "quoted" é': torch.ones(5).half(),
    "none": torch.empty(0, 4),
}


def test_it_is_the_file_that_the_library_writes(tmp_path):
    digest = write_safetensors(tmp_path / "own", TENSORS)
    contiguous = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    save_file(contiguous, tmp_path / "theirs", metadata={"format": "pt"})
    content = (tmp_path / "own").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()


def test_another_dtype_is_refused_before_the_file_is_opened(tmp_path):
    with pytest.raises(OutputError, match="`ids` has dtype"):
        write_safetensors(tmp_path / "own", {"ids": torch.arange(3)})
    assert not (tmp_path / "own").exists()
