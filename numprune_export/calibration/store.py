"""Calibration statistics on disk: one safetensors file per block, read back site by site.

Symmetric matrices are packed. Folders of earlier versions have them square.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.stage_record import put_whole
from numprune_export.data.corpus import Windows
from numprune_export.models.site import Site
from numprune_export.numerics.packed import packed, packed_entries, unpacked

GRADIENTS = "gradients.safetensors"
WINDOWS = "windows.safetensors"
PACKED = ".packed"
"""Suffix of the names of packed matrices."""


def write_block(folder: Path, block: int, statistics: Mapping[str, Statistics]) -> None:
    """Write the statistics of one block's sites, by site name; the file is whole or absent."""
    tensors = {}
    for name, sums in statistics.items():
        tensors[f"{name}.gram{PACKED}"] = packed(sums.shifted_gram).cpu()
        tensors[f"{name}.total"] = sums.shifted_total.cpu()
        if sums.shift is not None:
            tensors[f"{name}.shift"] = sums.shift.cpu()
        tensors[f"{name}.tokens"] = torch.tensor(sums.tokens)
    save_whole(tensors, _file(folder, block))


def save_whole(tensors: dict[str, Tensor], place: Path) -> None:
    """Write a safetensors file that is whole or absent."""
    partial = place.with_name(f".{place.name}.partial")
    save_file(tensors, partial)
    put_whole(partial, place)


def has_block(folder: Path, block: int) -> bool:
    """Whether `write_block` has written this block."""
    return _file(folder, block).is_file()


def write_gradients(folder: Path, gradients: Mapping[str, Tensor]) -> None:
    """Write gradients of unit masks by site name, (rows, units); no file if there are none."""
    if gradients:
        save_file(
            {name: rows.cpu().contiguous() for name, rows in gradients.items()}, folder / GRADIENTS
        )


def read_gradients(folder: Path, site: Site) -> Tensor | None:
    """A site's gradients of unit masks, (rows, units); None if calibration wrote none."""
    if not (folder / GRADIENTS).exists():
        return None
    with safe_open(folder / GRADIENTS, framework="pt") as file:
        gradients: Tensor = file.get_tensor(site.name)
    return gradients


def write_output_fisher(folder: Path, fisher: Mapping[str, Tensor]) -> None:
    """Write the Fisher information of consumers' outputs by site name, (out, out) fp64, a file per
    site."""
    for name, matrix in fisher.items():
        save_file({f"fisher{PACKED}": packed(matrix).cpu()}, _fisher_file(folder, name))


def read_output_fisher(folder: Path, site: Site) -> Tensor | None:
    """The Fisher information of a site's output, (out, out) fp64; None if calibration wrote
    none."""
    path = _fisher_file(folder, site.name)
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return _matrix(file, "fisher")


def read_site(folder: Path, site: Site) -> Statistics:
    """Read the statistics of one site only, without gradients, from a file of `write_block`."""
    with safe_open(_file(folder, site.block), framework="pt") as file:
        shift = f"{site.name}.shift"
        return Statistics(
            _matrix(file, f"{site.name}.gram"),
            file.get_tensor(f"{site.name}.total"),
            int(file.get_tensor(f"{site.name}.tokens")),
            site.consumer_width,
            shift=file.get_tensor(shift) if shift in file.keys() else None,  # noqa: SIM118
        )


def soon(folder: Path, site: Site, gradients: Path | None = None) -> None:
    """Ask the operating system to read a site's statistics ahead, and the Fisher information of its
    output from the folder `gradients`.

    Does nothing on systems without `posix_fadvise`.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    paths = [_file(folder, site.block)]
    if gradients is not None:
        paths.append(_fisher_file(gradients, site.name))
    for path in paths:
        if path.exists():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def write_windows(folder: Path, windows: Windows) -> None:
    """Write windows without padding."""
    tensors = {
        "tokens": torch.from_numpy(windows.tokens),
        "lengths": torch.from_numpy(windows.lengths),
    }
    save_file(tensors, folder / WINDOWS)


def read_windows(folder: Path) -> Windows:
    """Read the windows that `write_windows` wrote."""
    with safe_open(folder / WINDOWS, framework="np") as file:
        return Windows(file.get_tensor("tokens"), file.get_tensor("lengths"))


def gram_bytes(width: int) -> int:
    """Bytes on disk of the Gram matrix of a consumer with `width` inputs, fp32."""
    return 4 * packed_entries(width)


def fisher_bytes(width: int) -> int:
    """Bytes on disk of the Fisher information of `width` outputs, fp64."""
    return 8 * packed_entries(width)


def _matrix(file: Any, name: str) -> Tensor:
    """A symmetric matrix, packed or square."""
    square = name in file.keys()  # noqa: SIM118, the file itself is no container
    matrix: Tensor = file.get_tensor(name if square else f"{name}{PACKED}")
    return matrix if square else unpacked(matrix)


def _file(folder: Path, block: int) -> Path:
    return folder / f"block_{block:03d}.safetensors"


def _fisher_file(folder: Path, site: str) -> Path:
    return folder / f"output_fisher.{site}.safetensors"
