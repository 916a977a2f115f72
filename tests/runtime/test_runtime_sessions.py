from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ntksap_export.errors import ConfigError, ExportError, UnavailableError
from ntksap_export.graph import export
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.ort import OrtSession, provider_reason

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


class Net(nn.Module):
    """Gives other answers in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.drop(torch.relu(self.bn(self.conv(x))).mean((2, 3))))
        return logits


@dataclass(frozen=True)
class Pair:
    model: nn.Module
    content: bytes


@pytest.fixture(scope="module")
def pair() -> Pair:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net()
    return Pair(model, export(model, torch.zeros(1, 3, 10, 12)).to_bytes())


def _images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 10, 12), dtype=np.float32)


def _graph(inputs: str, body: str = "logits = Neg(images)") -> bytes:
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => (float[batch, c, h, w] logits) {{ {body} }}'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.mark.parametrize("optimization", ["off", "all"])
@pytest.mark.parametrize("batch", [1, 3])
def test_both_sessions_give_the_same_logits(pair: Pair, batch: int, optimization: str) -> None:
    images = _images(batch)
    with TorchSession(pair.model) as torch_session, OrtSession(pair.content, optimization=optimization) as ort_session:
        expected, actual = torch_session.run(images), ort_session.run(images)

    assert (batch, 5) == expected.shape == actual.shape
    assert np.float32 == expected.dtype == actual.dtype
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)


def test_path_and_bytes_are_the_same_graph(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(pair.content)

    with OrtSession(path) as from_path, OrtSession(pair.content) as from_bytes:
        assert np.array_equal(from_path.run(_images(2)), from_bytes.run(_images(2)))


def test_sessions_record_how_they_run(pair: Pair) -> None:
    with TorchSession(pair.model) as session:
        torch_options = session.options
    with OrtSession(pair.content, threads=1, optimization="off") as session:
        ort_options = session.options

    assert ("torch", "cpu", torch.get_num_threads()) == tuple(
        torch_options[key] for key in ("backend", "device", "threads")
    )
    assert {
        "backend": "onnxruntime",
        "device": "cpu",
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "streams": 1,
        "graph_optimization": "off",
        "arena": True,
        "memory_pattern": True,
        "spinning": True,
    } == ort_options


def test_torch_session_runs_in_eval_mode_without_autograd(pair: Pair) -> None:
    pair.model.train()
    before = {name: value.clone() for name, value in pair.model.state_dict().items()}

    with TorchSession(pair.model) as session:
        first, second = session.run(_images(4)), session.run(_images(4))

    assert not any(module.training for module in pair.model.modules())
    assert np.array_equal(first, second)
    assert all(torch.equal(before[name], value) for name, value in pair.model.state_dict().items())
    assert all(parameter.grad is None for parameter in pair.model.parameters())


@pytest.mark.parametrize("threads", [1, 2])
def test_onnxruntime_is_given_its_threads(pair: Pair, threads: int) -> None:
    with OrtSession(pair.content, threads=threads) as session:
        settings = session._session.get_session_options()

    assert (threads, 1) == (settings.intra_op_num_threads, settings.inter_op_num_threads)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_bound_call_runs_the_network_each_time(pair: Pair, backend: str) -> None:
    calls: list[int] = []
    hook = pair.model.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    with TorchSession(pair.model) if backend == "torch" else OrtSession(pair.content) as session:
        call = session.bind(_images(3))
        answers = [call(), call()]
    hook.remove()

    assert [None, None] == answers
    assert ([3, 3] if backend == "torch" else []) == calls


def test_bound_call_of_onnxruntime_feeds_these_images(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[np.ndarray] = []
    with OrtSession(pair.content) as session:
        real = session._session

        class Spy:
            get_inputs = real.get_inputs

            def run(self, names: None, feed: dict[str, np.ndarray]) -> None:
                fed.append(feed["images"])

        monkeypatch.setattr(session, "_session", Spy())
        session.bind(_images(2))()

    assert 1 == len(fed)
    assert np.array_equal(_images(2), fed[0])


def test_images_that_are_not_contiguous_give_the_same_logits(pair: Pair) -> None:
    turned = np.asfortranarray(_images(3))

    with TorchSession(pair.model) as torch_session, OrtSession(pair.content) as ort_session:
        assert np.array_equal(ort_session.run(_images(3)), ort_session.run(turned))
        assert np.array_equal(torch_session.run(_images(3)), torch_session.run(turned))


@pytest.mark.parametrize("graph", [b"", b"garbage", b"\x00" * 100], ids=repr)
def test_garbage_is_an_error_of_one_line(graph: bytes) -> None:
    with pytest.raises(ExportError, match=r"onnxruntime cannot load the graph: \S") as caught:
        OrtSession(graph)

    assert 1 == len(str(caught.value).splitlines())


def test_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"absent\.onnx"):
        OrtSession(tmp_path / "absent.onnx")


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime has CUDA")
def test_provider_that_is_not_there_is_unavailable_with_advice(pair: Pair) -> None:
    with pytest.raises(UnavailableError, match="no CUDAExecutionProvider; install onnxruntime-gpu"):
        OrtSession(pair.content, provider="cuda")

    assert provider_reason("cpu") is None


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_session_that_falls_back_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("ntksap_export.runtime.ort.onnxruntime.get_available_providers", lambda: providers)

    with pytest.raises(UnavailableError, match="asked for CUDAExecutionProvider, onnxruntime fell back to CPUExecut"):
        OrtSession(pair.content, provider="cuda")


def test_input_shape_is_that_of_one_image(pair: Pair) -> None:
    with OrtSession(pair.content) as session:
        assert (3, 10, 12) == session.input_shape


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (_graph("float[batch, 3, h, w] images"), "--image-size"),
        (_graph("float[batch, c, 8, 8] images"), "--image-size"),
        (_graph("float[batch, 3, 8, 8] images, float[1] more", "logits = Add(images, more)"), "2 inputs"),
    ],
)
def test_input_shape_that_is_not_known_is_an_error(graph: bytes, words: str) -> None:
    with OrtSession(graph) as session, pytest.raises(ConfigError, match=words):
        _ = session.input_shape
