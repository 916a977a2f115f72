"""What the machine is fast at."""

from __future__ import annotations

from pathlib import Path

import torch


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions that multiply bf16; emulation would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())


def cpu_flags() -> set[str]:
    """What the CPU calls its features on Linux; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()
