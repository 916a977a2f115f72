"""Plans as bytes: what they look like, that they come back, and that damage is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings

from ntksap_export.engine import plan_from_bytes, plan_to_bytes
from ntksap_export.engine.operators import (
    Act,
    Activate,
    Activation,
    Add,
    Conv,
    Flatten,
    GlobalPool,
    Plan,
    Pool,
    PoolMode,
    Tensor,
    Weights,
    Window,
)
from ntksap_export.errors import CheckpointError
from tests.engine.plan_strategies import plans

KERNEL = np.array([[0, 0, 0, 0], [0, 1.5, 0, -2.0], [0, 0, 0, 0.25]], np.float32)


def small() -> Plan:
    """A sparse layer with an empty row, bias and residual, and a pool."""
    conv = Conv(
        inputs=(0, 1), output=2, window=Window(kh=2, kw=2, sh=2, sw=2, top=1, left=1),
        weights=Weights.of(KERNEL.reshape(3, 1, 2, 2)), bias=np.array([1, 2, 3], np.float32),
        activation=Activation(Act.CLIP, 0.0, 6.0),
    )  # fmt: skip
    tensors = (Tensor(1, 4, 4), Tensor(3, 2, 2), Tensor(3, 2, 2), Tensor(3, rank=2))
    return Plan(tensors, (0, 1), (2, 3), (conv, GlobalPool((2,), 3, PoolMode.AVERAGE_INSIDE)))


def golden() -> bytes:
    """The same by hand, word by word."""
    six = struct.unpack("<I", struct.pack("<f", 6.0))[0]
    code = [
        1, 2, 0, 1, 2, 18, 2, 2, 2, 2, 1, 1, 1, 1, 2, 0, six, 1, 0, 0, 64, 0, 3, 0,
        3, 1, 2, 3, 1, 1,
    ]  # fmt: skip
    tensors = [1, 4, 4, 4, 3, 2, 2, 4, 3, 2, 2, 4, 3, 1, 1, 2]
    weights = struct.pack("<3I3f3H2x", 0, 2, 1, 1.5, -2.0, 0.25, 1, 1, 3)
    blob = weights + bytes(32) + struct.pack("<3f", 1, 2, 3)
    head = struct.pack("<8s6I4Q", b"NTKSPLN1", 1, 4, 2, 2, 2, len(code), 64 + 80, 320, len(blob), 0)
    words = struct.pack(f"<{len(tensors) + 4 + len(code)}I", *tensors, 0, 1, 2, 3, *code)
    return head + words + bytes(320 - 64 - len(words)) + blob


def test_the_format_is_what_the_document_says() -> None:
    assert golden() == plan_to_bytes(small())


@settings(max_examples=100, deadline=None)
@given(plan=plans())
def test_plans_come_back(plan: Plan) -> None:
    data = plan_to_bytes(plan)
    back = plan_from_bytes(data)

    assert data == plan_to_bytes(back)
    assert (plan.tensors, plan.inputs, plan.outputs) == (back.tensors, back.inputs, back.outputs)
    for old, new in zip(plan.operators, back.operators, strict=True):
        if isinstance(old, Conv) and isinstance(new, Conv):
            np.testing.assert_array_equal(old.weights.dense(), new.weights.dense())
            assert (old.inputs, old.output, old.window, old.activation) == (
                new.inputs, new.output, new.window, new.activation,
            )  # fmt: skip
        else:
            assert old == new


@pytest.mark.parametrize("gaps", [(65535,), (65536,), (65537, 0, 131073), (0, 200_000), (262_143,)])
def test_gaps_beyond_16_bits_are_bridged(gaps: tuple[int, ...]) -> None:
    columns = 300_000
    matrix = np.zeros((3, columns), np.float32)
    matrix[1, np.cumsum([gap + 1 for gap in gaps]) - 1] = np.arange(1, len(gaps) + 1)
    matrix[2, -1] = 5
    tensors = (Tensor(columns, rank=2), Tensor(3, rank=2))
    plan = Plan(tensors, (0,), (1,), (Conv((0,), 1, Window(), Weights.of(matrix[:, :, None, None])),))
    data = plan_to_bytes(plan)
    (operator,) = plan_from_bytes(data).operators
    assert isinstance(operator, Conv)

    np.testing.assert_array_equal(matrix, operator.weights.dense())
    assert len(gaps) + 1 == operator.weights.values.size
    assert data == plan_to_bytes(plan_from_bytes(data))


@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_smaller_form_of_a_kernel(density: float, groups: int) -> None:
    draw = np.random.default_rng(0)
    kernel = np.where(draw.random((12, 6 // groups, 3, 3)) < density, 1.0, 0).astype(np.float32)
    weights = Weights.of(kernel, groups)
    wanted = np.zeros((12, 6, 3, 3), np.float32)
    for row in range(12):
        own = row // (12 // groups) * (6 // groups)
        wanted[row, own : own + 6 // groups] = kernel[row]

    np.testing.assert_array_equal(wanted.reshape(12, 54), weights.dense())
    assert (groups == 1 and density > 2 / 3) == (weights.counts is None)


def test_equal_matrices_are_stored_once() -> None:
    weights = Weights.of(np.ones((8, 8, 3, 3), np.float32))
    conv = [Conv((at,), at + 1, Window(3, 3, top=1, left=1), weights) for at in (0, 1)]
    tensors = (Tensor(8, 4, 4),) * 3
    once = plan_to_bytes(Plan(tensors[:2], (0,), (1,), (conv[0],)))
    twice = plan_to_bytes(Plan(tensors, (0,), (2,), tuple(conv)))

    assert len(twice) - len(once) < 256


def refused(data: bytes) -> str:
    """The message; empty where the bytes are a plan."""
    try:
        plan_from_bytes(data)
    except CheckpointError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("malformed plan: ")
        return str(error)
    return ""


def test_every_truncation_is_refused() -> None:
    data = golden()

    assert [length for length in range(len(data)) if not refused(data[:length])] == []
    assert refused(data + b"\0")


def test_no_change_of_a_word_breaks_the_reader() -> None:
    data = golden()
    accepted = set()
    for at in range(0, len(data), 4):
        old = struct.unpack_from("<I", data, at)[0]
        for new in {0, 1, 3, 65535, 65536, 2**31, 2**32 - 1, (old + 1) % 2**32, old ^ 0x100} - {old}:
            if not refused(data[:at] + struct.pack("<I", new) + data[at + 4 :]):
                accepted.add(at)

    assert all(at >= 64 for at in accepted)  # no word of the header is free
    assert accepted  # other values are other plans, not damaged ones


def test_no_change_of_a_byte_breaks_the_reader() -> None:
    data = golden()
    accepted = {
        at
        for at in range(len(data))
        for bit in (1, 128)
        if not refused(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
    }

    assert all(at >= 64 for at in accepted)  # no byte of the header is free


DENSE = Weights.of(np.ones((3, 1, 1, 1), np.float32))
IMPOSSIBLE = {
    "is written twice": Plan((Tensor(1),) * 2, (0, 1), (1,), (Activate((0,), 1),)),
    "read before it is written": Plan((Tensor(1),) * 3, (0,), (2,), (Activate((1,), 2), Activate((0,), 1))),
    "tensors are never written": Plan((Tensor(1),) * 3, (0,), (1,), (Activate((0,), 1),)),
    "an output is an input": Plan((Tensor(1),) * 2, (0,), (0, 1), (Activate((0,), 1),)),
    "Add makes": Plan((Tensor(1), Tensor(2)), (0,), (1,), (Add((0, 0), 1),)),
    "Flatten makes": Plan((Tensor(1, 2, 2), Tensor(2, rank=2)), (0,), (1,), (Flatten((0,), 1),)),
    "Conv makes": Plan((Tensor(1, 4, 4), Tensor(3, 9, 4)), (0,), (1,), (Conv((0,), 1, Window(top=1), DENSE),)),
    "the padding is wider": Plan(
        (Tensor(1, 4, 4), Tensor(3, 6, 4)), (0,), (1,), (Conv((0,), 1, Window(top=2), DENSE),)
    ),
    "a matrix of 3 x 2 has 3 values": Plan((Tensor(2), Tensor(3)), (0,), (1,), (Conv((0,), 1, Window(), DENSE),)),
    "a window is": Plan((Tensor(1), Tensor(3)), (0,), (1,), (Conv((0,), 1, Window(sh=17), DENSE),)),
    "Pool makes": Plan((Tensor(1, 4, 4), Tensor(1, 9, 4)), (0,), (1,), (Pool((0,), 1, Window(), PoolMode.MAX),)),
    "a tensor of rank 2 has height 2": Plan((Tensor(1, 2, 1, 2),), (0,), (0,), ()),
    "a tensor has shape": Plan((Tensor(2**20, 2**14, 2),), (0,), (0,), ()),
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_contradictions_are_refused(reason: str) -> None:
    assert reason in refused(plan_to_bytes(IMPOSSIBLE[reason]))


def test_an_entry_outside_of_its_matrix_is_refused() -> None:
    data = bytearray(golden())
    data[-48:-46] = struct.pack("<H", 4)

    assert "an entry lies in column 4 of 4" in refused(bytes(data))
