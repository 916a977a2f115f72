"""A reader written from docs/format.md alone: numpy and a zstandard decompressor, nothing of the package."""

import json
from math import comb, prod

import numpy as np
import zstandard


def numpy_type(code):
    return "<u2" if code == "BF16" else f"<{code[0].lower()}{int(code[1:]) // 8}"


def read(path):
    """Name -> (values in their true shape, bf16 as its 16 bits; kept as bools, or None where nothing is pruned)."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    entries = json.loads(header.pop("__metadata__")["ntksap"])["tensors"]
    parts = {}
    for name, part in header.items():
        first, last = part["data_offsets"]
        parts[name] = np.frombuffer(data[first:last], numpy_type(part["dtype"])).reshape(part["shape"])
    found = {}
    for name, entry in entries.items():
        shape, kept = entry["shape"], None
        if entry["encoding"] == "dense":
            values = parts.pop(name)
        elif entry["encoding"] == "bitmask":
            suffixes = ("shape", "compressed", "bitmask", "row_offsets")
            matrix, values, packed, _ = (parts.pop(f"{name.removesuffix('.weight')}.{suffix}") for suffix in suffixes)
            bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : matrix[1]]
            kept, values = scattered(bits.reshape(-1) == 1, values)
        else:
            stream = parts.pop(name + ".packed")
            pieces = np.split(stream, np.cumsum(entry["bytes"])[:-1])
            kept = stored(entry, expanded(pieces[0], entry["raw"]))
            planes = np.stack([expanded(plane, entry["kept"]) for plane in pieces[1:]], axis=1)
            kept, values = scattered(kept, planes.copy().view(numpy_type(entry["dtype"])).reshape(-1))
        values = values.reshape(shape)
        masks = {"none": None, "full": np.ones(shape, bool), "nonzero": values.view(f"u{values.itemsize}") != 0}
        found[name] = values, masks.get(entry["mask"], kept if kept is None else kept.reshape(shape))
    return found | {name: (values, None) for name, values in parts.items()}


def expanded(stream, raw):
    return stream if len(stream) == raw else np.frombuffer(zstandard.decompress(stream.tobytes()), np.uint8)


def scattered(kept, values):
    dense = np.zeros(kept.size, values.dtype)
    dense[kept] = values
    return kept, dense


def stored(entry, stream):
    total, shape = prod(entry["shape"]), entry["shape"]
    if entry["encoding"] == "planes":
        return np.ones(total, bool)
    if entry["encoding"] == "bitmask-zstd":
        return np.unpackbits(stream, bitorder="little")[:total] == 1
    if entry["encoding"] == "gap":
        kept, ends = np.zeros(total, bool), stream < 255
        kept[(np.cumsum(stream.astype(int) + ends) - 1)[ends]] = True
        return kept
    n, m = entry["group"]
    numbers = [number for number in range(2**m) if number.bit_count() == n]
    each = max(k for k in range(1, 9) if comb(m, n) ** k <= 256)
    choices = [byte // comb(m, n) ** i % comb(m, n) for byte in stream.tolist() for i in range(each)]
    bits = [[numbers[choice] >> i & 1 for i in range(m)] for choice in choices[: total // m]]
    return np.moveaxis(np.array(bits, bool).reshape(shape[0], *shape[2:], shape[1]), -1, 1).reshape(-1)
