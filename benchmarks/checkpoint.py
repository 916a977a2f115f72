"""How small checkpoints are, how fast they are written and read, and what reading them takes.

    python benchmarks/checkpoint.py --work DIR [--run NAME=CHECKPOINT ...]

Networks are pruned and trained for one epoch of the embedded digits in DIR (what is there is taken as it is); `--run`
adds checkpoints of one's own. The bound is that of raw values: bits of the kept values, log2 of the number of position
sets C(n, k) of each pruned tensor, and whatever is not pruned as it is.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import zstandard
from common import interleave, save
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ntksap_export.checkpoint import SparseCheckpoint, open_checkpoint

RUNS: dict[str, list[str]] = {
    "resnet50 ntksap 0.8": ["resnet50", "--sparsity", "0.8"],
    "resnet50 ntksap 0.9": ["resnet50", "--sparsity", "0.9"],
    "resnet50 ntksap 0.95": ["resnet50", "--sparsity", "0.95"],
    "resnet50 ntksap 0.99": ["resnet50", "--sparsity", "0.99"],
    "resnet50 erk 0.9": ["resnet50", "--sparsity", "0.9", "--method", "erk"],
    "resnet50 2:4": ["resnet50", "--pattern", "2:4"],
    "resnet50 channel 0.8": ["resnet50", "--pattern", "channel", "--sparsity", "0.8"],
    "vgg16_bn ntksap 0.9": ["vgg16_bn", "--sparsity", "0.9"],
    "resnet20 ntksap 0.9": ["resnet20", "--sparsity", "0.9"],
}


def trained(work: Path, name: str, flags: list[str]) -> Path | None:
    """The checkpoint of one run of the road, made where it is missing; None where the command refuses."""
    out = work / name.replace(" ", "-").replace(":", "of")
    if not (out / "model.safetensors").exists():
        settings = work / "settings.toml"
        settings.write_text("rounds = 5\nepochs = 1\nimage_size = 32\n")
        common = ["--config", str(settings), "--quiet", "--out", str(out)]
        command = [sys.executable, "-m", "ntksap_export.cli", "prune", *flags, *common]
        if (
            subprocess.run(command).returncode
            or subprocess.run([*command[:3], "train", str(out), "--quiet"]).returncode
        ):
            return None
    return out / "model.safetensors"


def bound_bytes(checkpoint: SparseCheckpoint) -> float:
    """Values raw, positions at the logarithm of the number of position sets."""
    bits = 0.0
    for name, tensor in checkpoint.tensors.items():
        kept = checkpoint.mask.get(name)
        count = tensor.numel() if kept is None else int(kept.sum())
        bits += 8 * tensor.dtype.itemsize * count
        if kept is not None:
            n = tensor.numel()
            bits += (math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)) / math.log(2)
    return bits / 8


def coo_bytes(checkpoint: SparseCheckpoint) -> int:
    """Kept values with a 64-bit linear index each, as ONNX's sparse initializers have them; the rest dense."""
    return sum(
        tensor.nbytes if name not in checkpoint.mask else int(checkpoint.mask[name].sum()) * (tensor.itemsize + 8)
        for name, tensor in checkpoint.tensors.items()
    )


def sizes(name: str, checkpoint: SparseCheckpoint) -> dict[str, Any]:
    """Bytes in every form."""
    dense = save_safetensors(dict(checkpoint.tensors))
    bound = bound_bytes(checkpoint)
    file = checkpoint.to_bytes()
    header = 8 + int.from_bytes(file[:8], "little")
    encodings = [row.encoding for row in checkpoint.size_report().rows if row.mask != "none"]
    return {
        "name": name,
        "sparsity": checkpoint.mask.sparsity if checkpoint.mask else 0.0,
        "bound_bytes": bound,
        "bytes": {
            "ours": len(file),
            "header": header,
            "bitmask": len(checkpoint.to_bytes("bitmask")),
            "coo": coo_bytes(checkpoint),
            "dense": len(dense),
            "dense+gzip": len(gzip.compress(dense, 6)),
            "dense+zstd": len(zstandard.ZstdCompressor(level=3).compress(dense)),
        },
        "encodings": {key: encodings.count(key) for key in sorted(set(encodings))},
    }


def of_dtype(checkpoint: SparseCheckpoint, dtype: torch.dtype) -> SparseCheckpoint:
    """The same with its floating tensors in another type."""
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in checkpoint.tensors.items()
    }
    return SparseCheckpoint(tensors, checkpoint.mask, checkpoint.provenance)


def speeds(name: str, checkpoint: SparseCheckpoint, runs: int) -> dict[str, Any]:
    """Seconds to encode and decode in memory, beside plain safetensors, interleaved."""
    dense = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    plain = save_safetensors(dict(checkpoint.tensors))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.safetensors"
        checkpoint.save(path)

        def decode() -> None:
            with open_checkpoint(path) as reader:
                for tensor in reader.names():
                    reader.read(tensor)

        calls: dict[str, Callable[[], object]] = {
            "encode": checkpoint.to_bytes,
            "decode": decode,
            "plain save": lambda: save_safetensors(dict(checkpoint.tensors)),
            "plain load": lambda: {key: value.clone() for key, value in load_safetensors(plain).items()},
        }
        times = interleave(calls, runs)
    rates = {key: dense / 1e9 / statistics.median(seconds) for key, seconds in times.items()}
    return {"name": name, "dense_bytes": dense, "seconds": times, "gb_per_s": rates}


def memory(path: Path) -> dict[str, Any]:
    """What reading a whole file, and writing it again, take beyond their results; in tensors of the largest size."""
    code = (
        "import ctypes, os, sys, json, torch\n"
        "from ntksap_export.checkpoint import SparseCheckpoint, open_checkpoint\n"
        "from ntksap_export.masks import Mask\n"
        "def field(name): return int(open('/proc/self/status').read().split(name + ':')[1].split()[0]) * 1024\n"
        "open_checkpoint\n"
        "with open_checkpoint(sys.argv[1]) as reader:\n"
        "    smallest = min(reader.names(), key=lambda name: reader.stored_bytes(name)); reader.read(smallest)\n"
        "    open('/proc/self/clear_refs', 'w').write('5')\n"
        "    before = field('VmRSS'); kept = [reader.read(name) for name in reader.names()]\n"
        "    result = sum(d.tensor.nbytes + (0 if d.kept is None else d.kept.nbytes) for d in kept)\n"
        "    file = sum(reader.stored_bytes(name) for name in reader.names())\n"
        "    largest = max(d.tensor.nbytes for d in kept)\n"
        "    told = {'peak': field('VmHWM') - before, 'result': result, 'file': file, 'largest': largest}\n"
        "del kept\n"
        "whole = SparseCheckpoint.load(sys.argv[1])\n"
        "few = {name: whole.tensors[name] for name in whole.names() if whole.tensors[name].numel() < 50000}\n"
        "SparseCheckpoint(few, Mask({name: whole.mask[name] for name in whole.mask if name in few}), None).to_bytes()\n"
        "ctypes.CDLL(None).malloc_trim(0)\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = field('VmRSS'); whole.save(sys.argv[1])\n"
        "print(json.dumps({**told, 'write_peak': field('VmHWM') - before, 'written': os.path.getsize(sys.argv[1])}))\n"
    )
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(found.stdout)
    told["beyond_result_in_largest_tensors"] = (told["peak"] - told["result"] - told["file"]) / told["largest"]
    told["writing_beyond_result_in_largest_tensors"] = (told["write_peak"] - told["written"]) / told["largest"]
    return told


def lazy(directory: Path) -> dict[str, Any]:
    """One tensor of a file of 10 GB, which is a hole on the disk: 100 tensors of 100 MB."""
    path = directory / "ten.safetensors"
    count, each = 100, 100_000_000
    header: dict[str, Any] = {"__metadata__": {"ntksap": '{"provenance":null,"schema":2,"tensors":{}}'}}
    for index in range(count):
        offsets = [index * each, (index + 1) * each]
        header[f"t{index:03d}"] = {"dtype": "F32", "shape": [each // 4], "data_offsets": offsets}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + count * each)
    try:
        start = time.perf_counter()
        with open_checkpoint(path) as reader:
            reader.read("t050")
        return {"file_bytes": path.stat().st_size, "tensor_bytes": each, "seconds": time.perf_counter() - start}
    finally:
        path.unlink()


def table(rows: list[dict[str, Any]], fast: list[dict[str, Any]]) -> str:
    """For people."""
    lines = ["bytes of the file, in bounds of raw values (bound in MB)", ""]
    lines.append(
        f"{'checkpoint':30} {'sparse':>7} {'bound':>7} {'ours':>6} {'header':>7} {'bitmask':>8} {'COO':>6} "
        f"{'dense':>7} {'+gzip':>6} {'+zstd':>6}  encodings"
    )
    for row in rows:
        found = {key: value / row["bound_bytes"] for key, value in row["bytes"].items()}
        lines.append(
            f"{row['name']:30} {row['sparsity']:7.2%} {row['bound_bytes'] / 1e6:7.3f} {found['ours']:6.3f} "
            f"{found['header']:7.3f} {found['bitmask']:8.3f} {found['coo']:6.3f} {found['dense']:7.2f} "
            f"{found['dense+gzip']:6.2f} {found['dense+zstd']:6.2f}  {row['encodings']}"
        )
    lines += ["", "GB/s of dense bytes, one thread, median", ""]
    lines.append(f"{'checkpoint':30} {'encode':>7} {'decode':>7} {'plain save':>11} {'plain load':>11}")
    for row in fast:
        lines.append(f"{row['name']:30} " + " ".join(f"{value:8.2f}" for value in row["gb_per_s"].values()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=CHECKPOINT")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: trained(args.work, name, flags) for name, flags in RUNS.items()}
    found |= {name: Path(path) for name, path in (text.split("=", 1) for text in args.run)}
    rows, fast, took = [], [], {}
    for name, path in found.items():
        if path is None:
            continue
        checkpoint = SparseCheckpoint.load(path)
        rows.append(sizes(name, checkpoint))
        if not name.startswith("resnet20"):
            fast.append(speeds(name, checkpoint, args.repeats))
            again = args.work / "again.safetensors"
            checkpoint.save(again)
            took[name] = memory(again)
        if name == "resnet50 ntksap 0.9":
            for dtype in (torch.float16, torch.bfloat16):
                half = {
                    key: value.to(dtype) if value.is_floating_point() else value
                    for key, value in checkpoint.tensors.items()
                }
                rows.append(
                    sizes(f"{name} {str(dtype).removeprefix('torch.')}", SparseCheckpoint(half, checkpoint.mask, None))
                )
    ten = lazy(args.work)
    text = table(rows, fast)
    worst = max(value["beyond_result_in_largest_tensors"] for value in took.values())
    text += f"\n\nmemory beyond result and mapped file when all is read: at most {worst:.2f} of the largest tensor"
    worst = max(value["writing_beyond_result_in_largest_tensors"] for value in took.values())
    text += f"\nmemory beyond the source and the file's bytes when all is written: at most {worst:.2f} of it"
    text += f"\none tensor of {ten['tensor_bytes'] / 1e6:.0f} MB of a file of 10 GB: {ten['seconds']:.2f} s"
    save(
        "checkpoint", [{"sizes": rows, "speeds": fast, "memory": took, "lazy": ten, "cpu_count": os.cpu_count()}], text
    )


if __name__ == "__main__":
    main()
