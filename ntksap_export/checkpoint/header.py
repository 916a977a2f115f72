"""The header of a safetensors file, from the specs of its tensors.

Tensors lie in order of item size, the largest first, then by name, so that each is aligned and the bytes depend on the
content alone, not on the order in which the tensors come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from ntksap_export.checkpoint.container import DTYPES, Spec

_ALIGNMENT: Final = 8
# What safetensors has a code for; DTYPES are those that a checkpoint of ours holds.
CODES: Final[Mapping[torch.dtype, str]] = {
    **{dtype: code for code, dtype in DTYPES.items()},
    torch.complex64: "C64",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}


def header(specs: Mapping[str, Spec], metadata: Mapping[str, str] | None = None) -> tuple[bytes, dict[str, int]]:
    """The first bytes of the file, up to its tensors, and where from there each tensor begins, in the file's order.

    Args:
        specs: of every tensor, of dtypes in `CODES`.
        metadata: goes into `__metadata__`.
    """
    lines: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    places: dict[str, int] = {}
    end = 0
    for name in sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name)):
        spec, places[name] = specs[name], end
        end += spec.nbytes
        lines[name] = {"dtype": CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": [places[name], end]}
    text = json.dumps(lines, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, places
