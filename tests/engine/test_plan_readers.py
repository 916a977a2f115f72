"""The library's reader and ours take the same plans and refuse the same damage."""

from __future__ import annotations

import random
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntksap_export.engine import available, plan_from_bytes, plan_to_bytes
from ntksap_export.engine.library import NativePlan
from ntksap_export.engine.operators import Plan
from ntksap_export.errors import CheckpointError
from tests.engine.plan_strategies import plans


def is_taken(data: bytes, native: bool) -> bool:
    try:
        NativePlan(data) if native else plan_from_bytes(data)
    except CheckpointError:
        return False
    return True


@pytest.mark.skipif(not available(), reason="the sparse engine is not built here")
@settings(max_examples=25, deadline=None)
@given(plan=plans(), draw=st.randoms(use_true_random=False))
def test_both_readers_take_the_same(plan: Plan, draw: random.Random) -> None:
    data = plan_to_bytes(plan)
    assert is_taken(data, native=True)

    for _ in range(20):
        at = 4 * draw.randrange(len(data) // 4)
        (old,) = struct.unpack_from("<I", data, at)
        new = draw.choice([0, 1, 2, 3, 5, old + 1, old - 1, 65535, 2**31, 2**32 - 1]) % 2**32
        changed = data[:at] + struct.pack("<I", new) + data[at + 4 :]

        assert is_taken(changed, native=False) == is_taken(changed, native=True), (at, old, new)


def test_registering_loads_neither_torch_nor_onnx() -> None:
    code = "import sys; from ntksap_export.engine import register; sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
