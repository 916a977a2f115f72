"""The library's parser: what it takes, what it refuses and in which words."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ntksap_export.engine.library import NativePlan, available
from ntksap_export.errors import CheckpointError
from tests.engine.raw_plans import (
    NONE,
    RELU,
    TINY,
    TINY_BLOB,
    TINY_INPUT,
    TINY_OUTPUT,
    conv,
    every_kind,
    instruction,
    raw_plan,
    sparse_bytes,
)

needs_library = pytest.mark.skipif(not available(), reason="the engine is not built")


def patched(data: bytes, offset: int, number: int) -> bytes:
    return data[:offset] + struct.pack("<I", number) + data[offset + 4 :]


def expected_of_every_kind(images: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    x, w = torch.from_numpy(images), {name: torch.from_numpy(array) for name, array in weights.items()}
    stem = F.max_pool2d(F.conv2d(x, w["stem"].reshape(4, 3, 3, 3), w["bias"], padding=1).relu(), 2)
    added = (stem + F.conv2d(stem, w["point"].reshape(4, 4, 1, 1)) + stem).relu()
    both = torch.cat([added * F.hardsigmoid(added.mean((2, 3), keepdim=True)), added], 1)
    return (both.flatten(1) @ w["dense"].T).numpy(), both.numpy()


@needs_library
def test_a_plan_of_a_few_bytes_runs() -> None:
    (output,) = NativePlan(TINY).run([TINY_INPUT])

    np.testing.assert_allclose(TINY_OUTPUT, output, rtol=1e-6)


@needs_library
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 17])
def test_every_kind_of_operator_runs(batch: int, threads: int) -> None:
    data, weights = every_kind()
    images = np.random.default_rng(1).standard_normal((batch, 3, 6, 6)).astype(np.float32)
    logits, plane = expected_of_every_kind(images, weights)

    plan = NativePlan(data)

    assert [(3, 6, 6)] == plan.inputs
    assert [(5,), (8, 3, 3)] == plan.outputs
    found = plan.run([images], threads=threads)
    np.testing.assert_allclose(logits, found[0], atol=1e-4)
    np.testing.assert_allclose(plane, found[1], atol=1e-4)


@needs_library
def test_a_batch_of_none_gives_none() -> None:
    (output,) = NativePlan(TINY).run([TINY_INPUT[:0]], threads=2)

    assert (0, 3, 1, 3) == output.shape


@needs_library
def test_a_plan_outlives_its_bytes_and_knows_its_operators() -> None:
    data = bytearray(TINY)
    plan = NativePlan(bytes(data))
    del data

    np.testing.assert_allclose(TINY_OUTPUT, plan.run([TINY_INPUT])[0], rtol=1e-6)
    assert ["conv"] == [operator["kind"] for operator in json.loads(plan.describe())["operators"]]


@needs_library
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a plan begins with 64 bytes of header; got 0 bytes"),
        (TINY[:63], "a plan begins with 64 bytes of header; got 63 bytes"),
        (b"ONNX" + TINY[4:], "not a plan of the engine: it does not begin with NTKSPLN1"),
        (patched(TINY, 8, 2), "a plan of version 2; this library reads version 1"),
        (patched(TINY, 12, 3), "3 tensors, but 1 inputs and 1 operators write them"),
        (patched(TINY, 12, 70000), "70000 tensors; at most 65536 are allowed"),
        (patched(TINY, 16, 0), "the plan has no input"),
        (patched(TINY, 60, 1), "the header's last eight bytes are not zero"),
        (TINY[:-4], f"the weights end at byte {len(TINY)}, the plan has {len(TINY) - 4}"),
        (TINY + bytes(4), f"the plan ends at byte {len(TINY)}, but {len(TINY) + 4} bytes were given"),
        (patched(TINY, 36, 1), f"the words of the code end at byte {2**32 + 104 + 92}, the plan has {len(TINY)}"),
        (patched(TINY, 64, 0), "tensor 0 is 0 x 1 x 3, outside what a plan may hold"),
        (patched(TINY, 72, 2**14 + 1), "tensor 0 is 2 x 1 x 16385, outside what a plan may hold"),
        (patched(TINY, 76, 3), "tensor 0 has rank 3; wanted 4 or 2"),
        (patched(TINY, 76, 2), "tensor 0 has rank 2 and is 2 x 1 x 3; wanted a plane of 1 x 1"),
        (patched(TINY, 100, 0), "output 0 is tensor 0, which is an input or another output as well"),
        (patched(TINY, 252, 7), "byte 252 lies between two parts of the plan and is not zero"),
    ],
)  # fmt: skip
def test_a_damaged_header_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        NativePlan(data)

    assert f"the plan cannot be used: {reason}" == str(caught.value)


def tiny(**changes: int) -> list[list[int]]:
    numbers = {"weights": 0, "bias": len(TINY_BLOB) - 12, "nnz": 3, **changes}
    return [conv([0], 1, sparse=True, **numbers)]


@needs_library
@pytest.mark.parametrize(
    ("code", "blob", "reason"),
    [
        (tiny(kernel=0), TINY_BLOB, "its kernel's height is 0; wanted 1 to 64"),
        (tiny(stride=17), TINY_BLOB, "its stride down is 17; wanted 1 to 16"),
        (tiny(pad=4097), TINY_BLOB, "its padding above is 4097; wanted 0 to 4096"),
        (tiny(stride=3), TINY_BLOB, "its output's width of 3 needs 7 positions, the padded input has at most 4"),
        (tiny(weights=2), TINY_BLOB, "counts of its rows begin at byte 2 of the weights; wanted a multiple of 4"),
        (tiny(weights=400), TINY_BLOB, "counts of its rows end at byte 412, the plan's weights have 44"),
        (tiny(bias=36), TINY_BLOB, "biases end at byte 48, the plan's weights have 44"),
        (
            tiny(nnz=4),
            sparse_bytes([{1: 2.0}, {}, {0: 1.0, 1: -1.0}]) + bytes(16),
            "its rows hold 3 entries, it says 4",
        ),
        (tiny(nnz=2), TINY_BLOB, "its rows hold more than the 2 entries it says"),
        (tiny(nnz=2**31), TINY_BLOB, f"weights end at byte {12 + 4 * 2**31}, the plan's weights have 44"),
        (tiny(), sparse_bytes([{2: 2.0}, {}, {0: 1.0, 1: 1.0}]) + bytes(12), "row 0 names column 2, there are 2"),
        ([conv([0], 1, sparse=False, weights=0, nnz=5)], bytes(24), "it says 5 weights; dense ones are 3 x 2"),
        ([conv([0, 0], 1, sparse=False, weights=0, nnz=6)], bytes(24), "its residual is 2 x 1 x 3; wanted 3 x 1 x 3"),
        ([conv([1], 1, sparse=False, weights=0, nnz=6)], bytes(24), "tensor 1 is read before it is written"),
        ([conv([0], 0, sparse=False, weights=0, nnz=6)], bytes(24), "tensor 0 is written twice"),
        ([conv([0], 9, sparse=False, weights=0, nnz=6)], bytes(24), "it names tensor 9, the plan has 2"),
        (
            [conv([0], 1, act=(10, 0, 0), sparse=False, weights=0, nnz=6)],
            bytes(24),
            "its activation is 10; this library knows 0 to 9",
        ),
        ([instruction(1, [0], 1, [1] * 17)], b"", "it has 17 parameters; wanted 18"),
        ([instruction(1, [0, 0, 0], 1, [1] * 18)], b"", "it does not take 3 inputs"),
        ([[*tiny()[0][:-1]]], TINY_BLOB, "its code goes on after the last word"),
    ],
)
def test_a_convolution_that_contradicts_itself_is_refused(code: list[list[int]], blob: bytes, reason: str) -> None:
    data = raw_plan([(2, 1, 3, 4), (3, 1, 3, 4)], [0], [1], code, blob)

    with pytest.raises(CheckpointError) as caught:
        NativePlan(data)

    assert f"the plan cannot be used: operator 0 (conv): {reason}" == str(caught.value)


@needs_library
@pytest.mark.parametrize(
    ("out", "code", "reason"),
    [
        (
            (2, 3, 2, 4),
            instruction(2, [0], 1, [0, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0]),
            "operator 0 (pool): window 2 of its output's height holds nothing of the input",
        ),
        (
            (3, 2, 2, 4),
            instruction(2, [0], 1, [0, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0]),
            "operator 0 (pool): it makes 3 channels of 2",
        ),
        (
            (2, 2, 2, 4),
            instruction(2, [0], 1, [3, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0]),
            "operator 0 (pool): its mode is 3; wanted 0 to 2",
        ),
        (
            (2, 1, 2, 4),
            instruction(3, [0], 1, [0]),
            "operator 0 (global pool): its output is 2 x 1 x 2; wanted 2 x 1 x 1",
        ),
        (
            (2, 4, 5, 4),
            instruction(4, [0, 0], 1, NONE),
            "operator 0 (add): its first input is 2 x 4 x 4; wanted 2 x 4 x 5",
        ),
        (
            (2, 4, 5, 4),
            instruction(5, [0, 0], 1, NONE),
            "operator 0 (mul): its first input is 2 x 4 x 4; wanted 2 x 4 x 5",
        ),
        ((5, 4, 4, 4), instruction(6, [0, 0], 1), "operator 0 (concat): its inputs have 4 channels, its output 5"),
        ((2, 4, 3, 4), instruction(7, [0], 1, RELU), "operator 0 (act): its output is 2 x 4 x 3; wanted 2 x 4 x 4"),
        (
            (16, 1, 1, 2),
            instruction(8, [0], 1),
            "operator 0 (flatten): it makes 16 x 1 x 1 of 2 x 4 x 4; wanted 32 x 1 x 1",
        ),
        ((2, 4, 4, 4), instruction(9, [0], 1), "operator 0: its kind is 9; this library knows 1 to 8"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(out: tuple[int, int, int, int], code: list[int], reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        NativePlan(raw_plan([(2, 4, 4, 4), out], [0], [1], [code], b""))

    assert f"the plan cannot be used: {reason}" == str(caught.value)


@needs_library
def test_rows_of_more_columns_than_can_be_addressed_are_refused() -> None:
    code = conv([0], 1, kernel=64, pad=64, sparse=True, weights=0, nnz=0)
    data = raw_plan([(2**20, 1, 1, 4), (1, 1, 1, 4)], [0], [1], [code], bytes(4))

    with pytest.raises(CheckpointError, match=r"its rows have 4294967296 columns; at most 268435456 are allowed$"):
        NativePlan(data)


@needs_library
def test_words_after_the_last_operator_are_refused() -> None:
    data = raw_plan([(2, 4, 4, 4), (2, 4, 4, 4)], [0], [1], [[*instruction(7, [0], 1, RELU)]], b"")
    longer = patched(patched(data, 28, 9), 24, 1)

    with pytest.raises(CheckpointError, match=r"^the plan cannot be used: 1 words of code follow the last operator$"):
        NativePlan(longer)


@needs_library
def test_a_plan_wants_its_own_shapes() -> None:
    with pytest.raises(ValueError, match=r"the inputs are \[\(1, 2, 3, 1\)\]; the plan was made for \[\(2, 1, 3\)\]"):
        NativePlan(TINY).run([np.zeros((1, 2, 3, 1), np.float32)])


@needs_library
@pytest.mark.parametrize("isa", ["portable", "avx2", ""])
def test_a_stride_of_two_reads_rows_of_any_length(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTKSAP_ENGINE_ISA", isa)
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((1, 2, 3, 3)).astype(np.float32)
    for width in (5, 7, 8, 14, 15, 16, 28, 29, 31, 32, 33, 47, 57, 62, 66):
        images = draw.standard_normal((1, 2, 5, width)).astype(np.float32)
        expected = F.conv2d(torch.from_numpy(images), torch.from_numpy(weights), stride=2, padding=1).relu().numpy()
        code = conv([0], 1, kernel=3, stride=2, pad=1, act=RELU, sparse=False, weights=0, nnz=18)
        shapes = [(2, 5, width, 4), (1, 3, expected.shape[3], 4)]

        (found,) = NativePlan(raw_plan(shapes, [0], [1], [code], weights.tobytes())).run([images])

        np.testing.assert_allclose(expected, found, atol=1e-5, err_msg=f"width {width}")
