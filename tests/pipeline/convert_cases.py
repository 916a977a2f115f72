"""What the tests of conversions share: a checkpoint with all that could get lost, and a look at any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ntksap_export.checkpoint import Provenance, write_checkpoint
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.pipeline.convert import ConvertOptions, Outcome, convert, plan
from ntksap_export.pipeline.convert.kinds import kind_of, open_kind
from tests.checkpoint.formats.memory_source import MemorySource, everything, pruned

PROVENANCE = Provenance("tiny", "ntksap", 7, {"density": 0.5}, {"torch": "2.13.0"})


def odd_floats() -> torch.Tensor:
    """-0.0, infinities, subnormals, and a NaN with a payload."""
    bits = torch.tensor([-(2**31), 0x7F800000, -0x800000, 1, 0x7FC01234, 0, 0x3F800000, -1], dtype=torch.int32)
    return bits.view(torch.float32).reshape(2, 4)


def rich(narrow: bool = False) -> MemorySource:
    """Pruned and plain tensors of many dtypes.

    Args:
        narrow: with bfloat16 and 8-bit floats, which numpy has not.
    """
    every = torch.ones(2, 4, dtype=torch.bool)
    some = torch.tensor([[True, True, True, True], [True, False, True, True]])
    values = {
        "conv.weight": pruned((6, 3, 3, 3), 0.3),
        "fc.weight": pruned((4, 40), 0.1, torch.float16),
        "int8.weight": pruned((5, 9), 0.4, torch.int8),
        "odd.weight": Decoded(odd_floats(), some),
        "full.weight": Decoded(odd_floats() + 1, every),
        "gone.weight": Decoded(torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.bool)),
        "odd.bias": Decoded(odd_floats().reshape(-1), None),
        "steps": Decoded(torch.tensor(12345, dtype=torch.int64), None),
        "flags": Decoded(torch.tensor([True, False, True]), None),
        "empty": Decoded(torch.empty(0, 3), None),
    }
    if narrow:
        values["bf16.weight"] = pruned((7, 11), 0.3, torch.bfloat16)
        values["fp8"] = Decoded(torch.arange(64, dtype=torch.uint8).view(torch.float8_e4m3fn), None)
    return MemorySource(values, PROVENANCE)


def rich_file(directory: Path, narrow: bool = False) -> Path:
    """`rich` as a checkpoint of ours."""
    path = directory / "rich.safetensors"
    write_checkpoint(path, rich(narrow), PROVENANCE)
    return path


def content(path: Path) -> dict[str, Any]:
    """All tensors and masks of a checkpoint of any format, bit for bit."""
    kind = kind_of(path)
    assert kind is not None
    with open_kind(path, kind) as source:
        found: dict[str, Any] = everything(source)["tensors"]
        return found


def without_masks(found: dict[str, Any]) -> dict[str, Any]:
    return {name: (values, None) for name, (values, _) in found.items()}


def run(sources: list[Path], target: Path | str, **options: Any) -> list[Outcome]:
    """Convert in this process, going on after failures."""
    chosen = ConvertOptions(**options)
    return list(convert(plan(sources, str(target), chosen), chosen, keep_going=True))


def one(source: Path, target: Path | str, **options: Any) -> Outcome:
    (outcome,) = run([source], target, **options)
    return outcome
