"""The engine's operator inside onnxruntime sessions."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ntksap_export.engine.library import NativePlan, available, library_path, load, register
from tests.engine.raw_plans import NONE, TINY, TINY_INPUT, TINY_OUTPUT, every_kind, instruction, raw_plan
from tests.engine.sparse_models import sparse_model

pytestmark = pytest.mark.skipif(not available(), reason="the engine is not built")
IMAGE = ("N", 3, 6, 6)
TINY_IMAGE = ("N", 2, 1, 3)
# x0 + x1, both (2, 4, 4)
SUM = raw_plan([(2, 4, 4, 4)] * 3, [0, 1], [2], [instruction(4, [0, 1], 2, NONE)], b"")


def quiet(threads: int = 1) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return options


def opened(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    options = quiet(threads)
    register(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def said(call: Callable[[], Any]) -> str:
    """The message that onnxruntime fails with; its exception classes have no common public base."""
    with pytest.raises(Exception, match="ONNXRuntimeError") as caught:
        call()
    return str(caught.value).rpartition("ntksap_export.SparseBody: ")[2]


def images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_session_gives_what_the_plan_gives_for_any_batch(threads: int) -> None:
    data, _ = every_kind()
    session, plan = opened(sparse_model(data, [IMAGE], 2), threads), NativePlan(data)

    for batch in (1, 3, 16, 2, 1):
        expected = plan.run([images(batch)])
        for want, got in zip(expected, session.run(None, {"x0": images(batch)}), strict=True):
            np.testing.assert_allclose(want, got, atol=1e-5)


def test_a_batch_of_none_gives_none() -> None:
    data, _ = every_kind()

    logits, plane = opened(sparse_model(data, [IMAGE], 2)).run(None, {"x0": images(0)})

    assert ((0, 5), (0, 8, 3, 3)) == (logits.shape, plane.shape)


def test_several_inputs_are_told_apart() -> None:
    session = opened(sparse_model(SUM, [("N", 2, 4, 4)] * 2))
    a, b = (np.random.default_rng(seed).standard_normal((3, 2, 4, 4)).astype(np.float32) for seed in (1, 2))

    (total,) = session.run(None, {"x0": a, "x1": b})

    np.testing.assert_allclose(a + b, total, atol=1e-6)


def test_sessions_live_side_by_side_and_one_after_the_other() -> None:
    for _ in range(3):
        sessions = [opened(sparse_model(every_kind(seed)[0], [IMAGE], 2), 2) for seed in range(3)]
        for seed, session in enumerate(sessions):
            expected = NativePlan(every_kind(seed)[0]).run([images(2)])
            np.testing.assert_allclose(expected[0], session.run(["y0"], {"x0": images(2)})[0], atol=1e-5)
        del sessions, session
        gc.collect()


def test_options_open_several_sessions() -> None:
    options = quiet()
    register(options)
    register(options)  # twice does no harm
    model = sparse_model(TINY, [TINY_IMAGE])
    sessions = [onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for _ in range(2)]

    for session in sessions:
        np.testing.assert_allclose(TINY_OUTPUT, session.run(None, {"x0": TINY_INPUT})[0], rtol=1e-6)


def test_one_session_runs_on_several_threads_at_once() -> None:
    data, _ = every_kind()
    session, plan = opened(sparse_model(data, [IMAGE], 2), 2), NativePlan(data)
    expected = [plan.run([images(batch, seed=batch)])[0] for batch in range(1, 9)]

    def run(number: int) -> float:
        batch = 1 + number % 8
        got = session.run(["y0"], {"x0": images(batch, seed=batch)})[0]
        return float(abs(expected[batch - 1] - got).max())

    with ThreadPoolExecutor(4) as pool:
        errors = list(pool.map(run, range(200)))

    assert max(errors) < 1e-5


def test_shapes_behind_the_node_are_those_that_the_graph_tells() -> None:
    inner = [helper.make_tensor_value_info("y0", TensorProto.FLOAT, ["N", 3, 1, 3])]
    after = [helper.make_node("Flatten", ["y0"], ["z"])]

    session = opened(sparse_model(TINY, [TINY_IMAGE], inner=inner, after=after, out=["z"]))

    assert ["N", 9] == session.get_outputs()[0].shape
    np.testing.assert_allclose(TINY_OUTPUT.reshape(1, 9), session.run(None, {"x0": TINY_INPUT})[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((3, 3, 32, 32), "input 0 is 3 x 3 x 32 x 32, the plan was made for N x 3 x 6 x 6"),
        ((2, 1, 6, 6), "input 0 is 2 x 1 x 6 x 6, the plan was made for N x 3 x 6 x 6"),
        ((2, 108), "input 0 is 2 x 108, the plan was made for N x 3 x 6 x 6"),
        ((), "input 0 is a scalar, the plan was made for N x 3 x 6 x 6"),
    ],
)
def test_images_of_another_shape_are_refused_and_the_session_goes_on(shape: tuple[int, ...], reason: str) -> None:
    data, _ = every_kind()
    dims = None if shape == () else [None] * len(shape)
    session = opened(sparse_model(data, [dims], 2))

    assert reason == said(lambda: session.run(None, {"x0": np.zeros(shape, np.float32)}))
    if len(shape) == 4:
        assert (1, 5) == session.run(["y0"], {"x0": images(1)})[0].shape


def test_inputs_of_different_batches_are_refused() -> None:
    session = opened(sparse_model(SUM, [(None, 2, 4, 4)] * 2))
    a, b = np.zeros((3, 2, 4, 4), np.float32), np.zeros((2, 2, 4, 4), np.float32)

    assert "input 1 holds 2 images, input 0 3" == said(lambda: session.run(None, {"x0": a, "x1": b}))


def test_images_of_another_type_are_refused() -> None:
    session = opened(sparse_model(TINY, [TINY_IMAGE], element=TensorProto.DOUBLE))

    assert "input 0 must be float32 (element type 1); got element type 11" == said(
        lambda: session.run(None, {"x0": TINY_INPUT.astype(np.float64)})
    )


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (sparse_model(TINY[:-4], [TINY_IMAGE]), f"the weights end at byte {len(TINY)}, the plan has {len(TINY) - 4}"),
        (sparse_model(b"", [TINY_IMAGE]), "a plan begins with 64 bytes of header; got 0 bytes"),
        (
            sparse_model(TINY, [TINY_IMAGE], plan_is_input=True),
            "its last input, the plan, must be an initializer that no input of the graph replaces",
        ),
        (
            sparse_model(np.zeros(4, np.float32), [TINY_IMAGE]),
            "its last input, the plan, must be a row of uint8 (element type 2); got element type 1 of shape 4",
        ),
        (
            sparse_model(np.zeros((2, 2), np.uint8), [TINY_IMAGE]),
            "its last input, the plan, must be a row of uint8 (element type 2); got element type 2 of shape 2 x 2",
        ),
        (
            sparse_model(TINY, [TINY_IMAGE, TINY_IMAGE]),
            "the node has 2 inputs beside the plan and 1 outputs, the plan has 1 and 1",
        ),
        (
            sparse_model(TINY, [TINY_IMAGE], 2),
            "the node has 1 inputs beside the plan and 2 outputs, the plan has 1 and 1",
        ),
    ],
)
def test_a_node_that_cannot_run_is_told_when_the_session_is_opened(model: bytes, reason: str) -> None:
    assert reason == said(lambda: opened(model))


def test_without_the_library_onnxruntime_names_the_operator() -> None:
    model = sparse_model(TINY, [TINY_IMAGE])

    with pytest.raises(Exception, match=r"ntksap_export:SparseBody.* is not a registered function/op"):
        onnxruntime.InferenceSession(model, quiet(), providers=["CPUExecutionProvider"])


def test_a_runtime_without_our_version_is_told_in_words() -> None:
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    create_status = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    told: list[tuple[int, bytes]] = []
    create = create_status(lambda code, text: told.append((code, text)) or 42)
    oldest = (ctypes.c_void_p * 1)(ctypes.cast(create, ctypes.c_void_p))
    old = get_api(lambda version: ctypes.addressof(oldest) if version == 1 else None)
    none = get_api(lambda version: None)
    call = load().RegisterCustomOps
    call.restype, call.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]

    answers = [call(None, (ctypes.c_void_p * 2)(ctypes.cast(base, ctypes.c_void_p), None)) for base in (old, none)]

    assert [42, None] == answers
    assert [(1, b"the sparse engine needs onnxruntime 1.17 or newer; use model.onnx, or upgrade")] == told


# Nothing of ours is imported: what a user of onnxruntime in any language does.
PROGRAM = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
numpy.save(sys.argv[4], session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[3])})[0])
assert not any(name.startswith("ntksap") for name in sys.modules)
"""


def test_a_program_that_knows_only_onnxruntime_gets_the_same(tmp_path: Path) -> None:
    data, _ = every_kind()
    (tmp_path / "model.sparse.onnx").write_bytes(sparse_model(data, [IMAGE], 2))
    np.save(tmp_path / "images.npy", images(3))
    names = ["model.sparse.onnx", "images.npy", "logits.npy"]
    command = [sys.executable, "-c", PROGRAM, str(library_path()), *(str(tmp_path / name) for name in names)]

    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path)

    np.testing.assert_allclose(NativePlan(data).run([images(3)])[0], np.load(tmp_path / "logits.npy"), atol=1e-5)
