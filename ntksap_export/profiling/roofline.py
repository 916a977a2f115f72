"""What this machine can do at best: operations per second, and bytes per second to and from memory.

    achieved <= min(peak, intensity * bandwidth)        Williams, Waterman & Patterson, "Roofline", CACM 2009

A node whose intensity (FLOP per byte) is below peak / bandwidth waits for memory, however good its kernel is. Both are
measured, not looked up: clocks, other guests of the machine and the kernels at hand decide what can be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from ntksap_export.errors import UnavailableError
from ntksap_export.profiling.one_shot import ask

WORKER: Final = "ntksap_export.profiling.layers_worker"
SIDES: Final = (512, 1024)  # of the matrices: larger ones fall out of small caches, smaller ones are over too soon
_SECONDS: Final = 0.25  # of products of one size
_COPIES: Final = 8
_BIG: Final = (64 << 20, 512 << 20)  # bytes of an array that is copied, at least and at most
_NAMES: Final = {"fp32": "peak_gflops", "int8": "peak_gflops_int8", "bf16": "peak_gflops_bf16"}
_WORDS: Final = {
    "fp32": "float32 by MatMul in onnxruntime",
    "int8": "u8 x s8 by MatMulInteger in onnxruntime",
    "bf16": "bfloat16 by torch.mm",
}
Clock = Callable[[], int]


def measure_machine(threads: Sequence[int], precisions: Sequence[str] = ("fp32",)) -> dict[str, Any]:
    """Peaks and bandwidth, each thread count in a fresh process on as many CPUs; about two seconds each.

    Args:
        threads: counts.
        precisions: whose peaks are wanted; fp32 always is.

    Returns:
        `peak_gflops` and `bandwidth_gb_s` by thread count, `peak_gflops_int8` and `peak_gflops_bf16` where asked (the
        value is None where it cannot be measured, and `reasons` says why), and `method` in words.
    """
    from ntksap_export.graph.product import matrix_product

    wanted = [name for name in _NAMES if name == "fp32" or name in precisions]
    graphs = {name: [matrix_product(side, name).hex() for side in SIDES] for name in ("fp32", "int8") if name in wanted}
    found: dict[str, Any] = {_NAMES[name]: {} for name in wanted} | {"bandwidth_gb_s": {}}
    reasons: dict[str, str] = {}
    size = 0
    for count in dict.fromkeys(threads):
        try:
            answer = ask(WORKER, {"what": "machine", "threads": count, "graphs": graphs, "precisions": wanted})
        except UnavailableError as error:
            answer = {"peaks": {}, "bandwidth": None, "reasons": dict.fromkeys(wanted, str(error)), "array_bytes": 0}
        for name in wanted:
            found[_NAMES[name]][str(count)] = answer["peaks"].get(name)
        found["bandwidth_gb_s"][str(count)] = answer["bandwidth"]
        reasons |= answer["reasons"]
        size = max(size, answer["array_bytes"])
    return {**found, "method": _method(wanted, size), **({"reasons": reasons} if reasons else {})}


def measure_here(spec: dict[str, Any]) -> dict[str, Any]:
    """The worker's part: in this process, with its threads."""
    peaks: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name in spec["precisions"]:
        try:
            if name == "bf16":
                peaks[name] = _torch_peak(spec["threads"])
            else:
                peaks[name] = max(
                    _graph_peak(bytes.fromhex(graph), side, name, spec["threads"])
                    for graph, side in zip(spec["graphs"][name], SIDES, strict=True)
                )
        except Exception as error:  # a runtime without that kernel raises its own kind
            peaks[name], reasons[name] = None, str(error).splitlines()[0]
    size = array_bytes()
    bandwidth = copy_gb_s(size, spec["threads"])
    return {"peaks": peaks, "bandwidth": bandwidth, "reasons": reasons, "array_bytes": size}


def best_gflops(call: Callable[[], object], operations: int, clock: Clock = time.perf_counter_ns) -> float:
    """The fastest of the calls within a quarter of a second, at least five; the first is a warm-up.

    Args:
        call: does `operations`.
        operations: additions and multiplications, each counted.
        clock: nanoseconds; replaced in tests.
    """
    call()
    fastest, start, runs = float("inf"), clock(), 0
    while runs < 5 or clock() - start < _SECONDS * 1e9:
        before = clock()
        call()
        fastest = min(fastest, clock() - before)
        runs += 1
    return operations / fastest


def copy_gb_s(size: int, threads: int, clock: Clock = time.perf_counter_ns) -> float:
    """Gigabytes per second of the fastest of some copies: `size` bytes read and as many written, by all threads."""
    source, target = np.ones(size // 8), np.zeros(size // 8)
    parts = [slice(size // 8 * at // threads, size // 8 * (at + 1) // threads) for at in range(threads)]
    fastest = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_COPIES):
            before = clock()
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))
            fastest = min(fastest, clock() - before)
    return 2 * size / fastest


def array_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Four times the last level of the cache, within bounds."""
    sizes = []
    for path in root.glob("index*/size"):
        text = path.read_text().strip()
        if text[:-1].isdigit() and text[-1] in "KM":
            sizes.append(int(text[:-1]) << {"K": 10, "M": 20}[text[-1]])
    return min(max(4 * max(sizes, default=0), _BIG[0]), _BIG[1])


def _graph_peak(graph: bytes, side: int, kind: str, threads: int) -> float:
    from ntksap_export.runtime.ort import OrtSession

    images = np.full((side, side), 0.5, np.float32) if kind == "fp32" else np.full((side, side), 3, np.uint8)
    with OrtSession(graph, "cpu", threads) as session:
        return best_gflops(session.bind(images), 2 * side**3)


def _torch_peak(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    return max(_bf16_rate(side) for side in SIDES)


def _bf16_rate(side: int) -> float:
    import torch

    one, other, made = (torch.full((side, side), 0.5, dtype=torch.bfloat16) for _ in range(3))
    return best_gflops(lambda: torch.mm(one, other, out=made), 2 * side**3)


def _method(wanted: Sequence[str], size: int) -> str:
    sides = " and ".join(str(side) for side in SIDES)
    kinds = ", ".join(_WORDS[name] for name in wanted)
    return (
        f"peak: the fastest product of square matrices of side {sides} ({kinds}), the second factor packed beforehand; "
        f"bandwidth: the fastest of {_COPIES} copies of {size >> 20} MiB, counting what is read and what is written; "
        "in a fresh process for each number of threads, pinned to as many CPUs"
    )
