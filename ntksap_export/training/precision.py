"""Where and in which numbers to compute."""

from __future__ import annotations

import torch

from ntksap_export.errors import UnavailableError
from ntksap_export.hardware import fast_bf16


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device.

    Raises:
        UnavailableError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UnavailableError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` takes bf16 where the hardware has instructions for it."""
    if name != "auto":
        return name
    return "bf16" if fast_bf16(device) else "fp32"


def autocast_type(precision: str) -> torch.dtype:
    """What autocast computes in."""
    return torch.float16 if precision == "fp16" else torch.bfloat16
