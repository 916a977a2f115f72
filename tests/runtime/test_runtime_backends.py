"""One suite over every backend of the table; those that are not here are skipped with their reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntksap_export.config import RunConfig
from ntksap_export.errors import ExportError, FallbackError, UnavailableError
from ntksap_export.graph import Graph, export
from ntksap_export.runtime import backends
from ntksap_export.runtime.parity import Limits, check_parity, make_probes
from ntksap_export.runtime.session import Session
from tests.support.nets import tiny_net

ON_CPU = [name for name in backends.BACKENDS if name != "tensorrt"]


class TwoAnswers(nn.Module):
    """Logits, and the features they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.conv(x))
        return self.fc(features.mean((2, 3))), features


def _two_answers() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TwoAnswers().eval()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return export(tiny_net().eval(), torch.zeros(1, 3, 10, 12))


@pytest.fixture(scope="module")
def two_answers() -> Graph:
    return export(_two_answers(), torch.zeros(1, 3, 10, 12))


@contextmanager
def _opened(backend: str, graph: Graph, model: nn.Module, threads: int = 1) -> Iterator[Session]:
    if reason := backends.unavailable(backend, "cpu"):
        pytest.skip(reason)
    if backends.takes_model(backend):
        session = backends.open_model(backend, model, "cpu", threads)
    else:
        session = backends.open_graph(backend, graph.to_bytes(), "cpu", threads)
    try:
        yield session
    finally:
        session.close()


def _images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 10, 12), dtype=np.float32)


@pytest.mark.parametrize("backend", ON_CPU)
def test_agrees_with_the_model_at_every_batch(backend: str, graph: Graph) -> None:
    with _opened(backend, graph, tiny_net()) as session, _opened("torch", graph, tiny_net()) as reference:
        parity = check_parity(reference, [session], make_probes(_images(7)), limits=Limits(1e-5, 1e-5))

    assert parity.passed, parity.complaint()
    assert not parity.vacuous
    assert 6 == len(parity.checks)
    assert {backend} == {check.runtime for check in parity.checks}


@pytest.mark.parametrize("backend", ON_CPU)
def test_gives_every_output_and_the_logits_first(backend: str, two_answers: Graph) -> None:
    with torch.inference_mode():
        logits, features = (value.numpy() for value in _two_answers()(torch.from_numpy(_images(2))))

    with _opened(backend, two_answers, _two_answers()) as session:
        answers, first, names = session.run_all(_images(2)), session.run(_images(2)), session.output_names

    assert 2 == len(answers)
    np.testing.assert_allclose(answers[0], logits, atol=1e-5)
    np.testing.assert_allclose(answers[1], features, atol=1e-5)
    assert np.array_equal(first, answers[0])
    assert np.float32 == first.dtype
    assert backends.takes_model(backend) == (names == ())
    assert names == () or (names[0], 2) == ("logits", len(names))


@pytest.mark.parametrize("backend", ON_CPU)
def test_records_how_it_runs(backend: str, graph: Graph) -> None:
    with _opened(backend, graph, tiny_net(), threads=1) as session:
        options = session.options

    assert (backend, "cpu", 1) == tuple(options[key] for key in ("backend", "device", "threads"))


@pytest.mark.parametrize("backend", ON_CPU)
def test_bound_call_answers_nothing_and_disturbs_nothing(backend: str, graph: Graph) -> None:
    with _opened(backend, graph, tiny_net()) as session:
        before = session.run(_images(3))
        call = session.bind(_images(3))
        answers: list[Any] = [call(), call()]
        after = session.run(_images(3))

    assert [None, None] == answers
    assert np.array_equal(before, after)


@pytest.mark.parametrize("backend", ON_CPU)
def test_answers_stay_when_it_runs_again(backend: str, graph: Graph) -> None:
    with _opened(backend, graph, tiny_net()) as session:
        first = session.run(_images(2))
        kept = first.copy()
        session.run(_images(2) + 1)

    assert np.array_equal(kept, first)


@pytest.mark.parametrize("backend", [name for name in ON_CPU if not backends.takes_model(name)])
def test_graph_is_read_from_a_file_too_and_knows_its_input(backend: str, graph: Graph, tmp_path: Path) -> None:
    if reason := backends.unavailable(backend):
        pytest.skip(reason)
    graph.save(tmp_path / "net.onnx")

    session = backends.open_graph(backend, tmp_path / "net.onnx", "cpu", 1)

    assert (3, 10, 12) == session.input_shape
    session.close()


@pytest.mark.parametrize("backend", [name for name in ON_CPU if not backends.takes_model(name)])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_garbage_is_an_error_of_one_line(backend: str, content: bytes) -> None:
    if reason := backends.unavailable(backend):
        pytest.skip(reason)

    with pytest.raises(ExportError, match=rf"{backend} cannot load the graph: \S") as caught:
        backends.open_graph(backend, content)

    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("backend", [name for name in ON_CPU if not backends.takes_model(name)])
def test_images_that_do_not_fit_are_an_error_of_one_line(backend: str, graph: Graph) -> None:
    with _opened(backend, graph, tiny_net()) as session, pytest.raises(ExportError, match="cannot run") as caught:
        session.run(np.zeros((1, 5, 10, 12), np.float32))

    assert 1 == len(str(caught.value).splitlines())
    assert str(caught.value).startswith(backend)


def test_config_and_table_name_the_same_backends() -> None:
    annotation = str(RunConfig.model_fields["profile_backend"].annotation)

    assert all(f"'{name}'" in annotation for name in backends.BACKENDS)
    assert len(backends.BACKENDS) == annotation.count("'") // 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_without_a_gpu_cuda_is_not_here(backend: str) -> None:
    assert "no CUDA device" == backends.unavailable(backend, "cuda")


@pytest.mark.parametrize(
    ("backend", "device", "said"),
    [
        ("tensorrt", "cpu", "TensorRT runs on CUDA devices only"),
        ("tensorrt", "cuda", "no TensorrtExecutionProvider; install onnxruntime-gpu in its place, and TensorRT"),
        ("onnxruntime", "cuda", "no CUDAExecutionProvider; install onnxruntime-gpu in its place"),
        ("openvino", "cuda", "OpenVINO runs on the CPU here"),
        ("openvino", "cpu", "openvino is not installed; pip install 'ntksap-export[openvino]'"),
        ("torch-compile", "cpu", "'no-such-compiler' is not here; install it or name another in CXX"),
        ("torch-compile", "cuda", "pip install triton"),
    ],
)
def test_what_is_missing_says_what_to_install(
    backend: str, device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    monkeypatch.setattr(backends, "_has_cuda", lambda: True)
    monkeypatch.setattr("ntksap_export.runtime.ort.onnxruntime.get_available_providers", list)
    monkeypatch.setenv("CXX", "no-such-compiler")

    reason = backends.unavailable(backend, device)

    assert reason is not None
    assert said in reason


def test_openvino_that_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "ntksap_export.runtime.ov", raising=False)

    with pytest.raises(UnavailableError, match=r"pip install 'ntksap-export\[openvino\]'"):
        backends.load("openvino")


def test_openvino_computes_in_float32(graph: Graph) -> None:
    """On a CPU that is fast at bfloat16 it would take that by itself."""
    with _opened("openvino", graph, tiny_net()) as session:
        assert ("f32", 1) == (session.options["precision"], session.options["streams"])


def test_what_torch_compile_would_run_eagerly_is_an_error() -> None:
    class Breaks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x.mean((2, 3))

    if reason := backends.unavailable("torch-compile"):
        pytest.skip(reason)
    session = backends.open_model("torch-compile", Breaks())

    with pytest.raises(ExportError, match=r"torch\.compile cannot compile the model: \S") as caught:
        session.bind(_images(1))

    assert 1 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_process_that_runs_a_graph_does_not_load_torch(backend: str, graph: Graph, tmp_path: Path) -> None:
    if reason := backends.unavailable(backend):
        pytest.skip(reason)
    graph.save(tmp_path / "net.onnx")
    code = f"""
import pathlib, sys
from ntksap_export.runtime import backends
backends.open_graph({backend!r}, pathlib.Path("net.onnx")).close()
print("torch" in sys.modules)
"""

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert "False\n" == done.stdout, done.stderr


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_bf16_is_taken_when_asked_for_and_said(backend: str, graph: Graph) -> None:
    reason = backends.unavailable(backend) or backends.lacks_precision(backend, "bf16")
    if reason:
        pytest.skip(reason)
    images = np.random.default_rng(0).standard_normal((2, 3, 10, 12), dtype=np.float32)
    logits = []
    for precision in ("fp32", "bf16"):
        source = {"openvino": graph.to_bytes(), "torch": tiny_net().eval()}[backend]
        opener: Any = backends.open_model if backends.takes_model(backend) else backends.open_graph
        session = opener(backend, source, "cpu", 1, precision=precision)
        session.bind(images)()
        logits.append(session.run(images))
        said = session.options["precision"]
        session.close()

    apart = float(np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max())
    assert "bf16" == said
    assert 0 < apart < 0.05


def test_onnxruntime_has_no_bf16_of_a_float32_graph(graph: Graph) -> None:
    with pytest.raises(FallbackError, match="asked for bf16, onnxruntime runs the graph in its own numbers"):
        backends.open_graph("onnxruntime", graph.to_bytes(), precision="bf16")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"threads": 4096}, "asked for 4096 threads, openvino took "),
        ({"threads": 1, "streams": 4096}, "asked for 4096 streams, openvino runs "),
        ({"threads": 1, "precision": "int8"}, "asked for int8, no node of the graph computes in it"),
    ],
)
def test_openvino_that_takes_something_else_is_refused(graph: Graph, asked: dict[str, Any], words: str) -> None:
    if reason := backends.unavailable("openvino"):
        pytest.skip(reason)

    with pytest.raises(FallbackError, match=words):
        backends.open_graph("openvino", graph.to_bytes(), **asked)


def test_torch_that_takes_another_number_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    there = torch.get_num_threads()

    with pytest.raises(FallbackError, match=f"asked for {there + 1} threads, torch took {there}"):
        backends.open_model("torch", tiny_net(), threads=there + 1)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_bound_calls_of_several_streams_run_at_once(backend: str, graph: Graph) -> None:
    if reason := backends.unavailable(backend):
        pytest.skip(reason)
    streams = min(2, len(os.sched_getaffinity(0)))
    images = np.zeros((1, 3, 10, 12), np.float32)
    if backends.takes_model(backend):
        session: Session = backends.open_model(backend, tiny_net(), "cpu", 1, streams=streams)
    else:
        session = backends.open_graph(backend, graph.to_bytes(), "cpu", 1, streams=streams)
    with ThreadPoolExecutor(streams) as pool:
        calls = [session.bind(images) for _ in range(streams)]
        answers = [pool.submit(lambda call=call: [call() for _ in range(20)]) for call in calls]
        done = [value for answer in answers for value in answer.result(timeout=60)]
    options = dict(session.options)
    session.close()

    assert [None] * 20 * streams == done
    assert (1, streams) == (options["threads"], options["streams"])


@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        ("onnxruntime", "fp32", None),
        ("onnxruntime", "bf16", "onnxruntime runs a float32 graph in float32 only"),
        ("openvino", "int8", "openvino runs a float32 graph in float32 only; export with --int8"),
        ("torch", "fp16", "torch runs the float32 model; fp16 is a graph's"),
    ],
)
def test_a_precision_that_a_backend_lacks_has_a_reason(backend: str, precision: str, reason: str | None) -> None:
    assert reason == backends.lacks_precision(backend, precision)
