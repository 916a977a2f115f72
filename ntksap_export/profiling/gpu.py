"""Clocks, power and company of the GPU, read through NVML (nvidia-ml-py); nothing is ever set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from statistics import median
from typing import Any

_WAY = "pip install nvidia-ml-py"


def reading(uuid: str | None = None) -> dict[str, Any]:
    """State of the device now, or `{"skipped": reason}`.

    Args:
        uuid: of the device as CUDA names it, without `GPU-`; None is the first.
    """
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return {"skipped": f"pynvml is not installed; {_WAY}"}
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") if uuid else nvml.nvmlDeviceGetHandleByIndex(0)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        others = [entry.pid for entry in nvml.nvmlDeviceGetComputeRunningProcesses(handle) if entry.pid != os.getpid()]
        found = {
            "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "max_sm_clock_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
            "used_bytes": int(memory.used),
            # within a container its own process may be listed under another number
            "processes": len(others),
        }
    except Exception as error:  # NVMLError has one class per code, made at run time
        return {"skipped": f"NVML cannot be read: {error}"}
    return found


def summary(readings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the readings after each turn show together; of numbers the median, of clocks the range too."""
    told = [each for each in readings if "skipped" not in each]
    if not told:
        return dict(readings[0]) if readings else {"skipped": "never read"}
    clocks = [each["sm_clock_mhz"] for each in told]
    reasons = 0
    for each in told:
        reasons |= each["throttle_reasons"]
    return {
        "clocks": "read, never set",
        "sm_clock_mhz": median(clocks),
        "sm_clock_range_mhz": [min(clocks), max(clocks)],
        "max_sm_clock_mhz": told[0]["max_sm_clock_mhz"],
        "memory_clock_mhz": median(each["memory_clock_mhz"] for each in told),
        "power_w": median(each["power_w"] for each in told),
        "temperature_c": max(each["temperature_c"] for each in told),
        "throttle_reasons": reasons,
        "used_bytes": max(each["used_bytes"] for each in told),
        "other_processes": max(each["processes"] for each in told),
    }
