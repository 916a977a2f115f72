"""What a stranger needs to believe a number: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
_PACKAGES = ("ntksap-export", "torch", "onnx", "onnxruntime", "openvino", "numpy")


def environment() -> dict[str, Any]:
    """CPU, cores, caches, instruction sets, governor, load, memory, GPU, system and versions. No host name, no path.

    `cores` are the CPUs that this process may use; `smt` tells whether two of them may share a core. What this machine
    does not tell is None or missing.
    """
    info = _cpu_info()
    siblings = _read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "isa": [name for name in _ISA if name in info.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cpus": psutil.cpu_count(),
        "smt": None if siblings is None else not siblings.isdigit(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "caches_bytes": _caches(),
        "virtual_machine": "hypervisor" in info.get("flags", "").split() if info else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": round(os.getloadavg()[0], 2),
        "ram_bytes": psutil.virtual_memory().total,
        "gpu": _gpu(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if ":" in line)
    info: dict[str, str] = {}
    for key, _, value in pairs:
        info.setdefault(key.strip(), value.strip())
    return info


def _caches() -> dict[str, int]:
    """Bytes of each cache that the first CPU uses, its own or shared: L1d, L1i, L2, L3."""
    found = {}
    for place in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(str(place / name)) for name in ("level", "type", "size"))
        if level and kind and size and size.endswith("K"):
            found[f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') }"] = 1024 * int(size[:-1])
    return found


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
