"""What an exported graph calls its initializers and outputs, at which opset, and for which sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from ntksap_export import networks
from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, export, optimize
from ntksap_export.masks import Mask

from ..support.torchvision import torchvision_models
from .conftest import season_


class Mixed(nn.Module):
    """A bias that folding makes, one that it changes, a Linear on tokens, a shared weight, a layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.own, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.token = nn.Linear(4, 6)
        self.head, self.again = nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.head.weight
        self.unused = nn.Linear(2, 2)
        self.register_buffer("scale", torch.tensor([1.0, 2, 3, 4, 5, 6]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.bare(x)))
        x = torch.relu(self.bn2(self.own(x)))
        x = self.token(x.flatten(2).transpose(1, 2)).mean(1)
        logits: torch.Tensor = self.again(torch.relu(self.head(x))) * self.scale
        return logits


class Several(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.fc, self.kind = nn.Linear(3, 4), kind

    def forward(self, x: torch.Tensor) -> Any:
        x = x.mean((2, 3))
        first, second = self.fc(x), x * 2
        if self.kind == "keys":
            return {"scores": first, "inner": {"pooled/mean": second}}
        return (first, second)


SAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def mixed() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = Mixed()
    season_(model)
    return model.eval()


@pytest.fixture(scope="module")
def mask(mixed: nn.Module) -> Mask:
    draw = torch.Generator().manual_seed(1)
    return Mask({name: torch.rand(kept.shape, generator=draw) < 0.5 for name, kept in Mask.dense(mixed).items()})


@pytest.fixture(scope="module")
def graph(mixed: nn.Module, mask: Mask) -> Graph:
    return export(mixed, SAMPLE, mask=mask)


def run(graph: Graph, images: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, {"images": images.numpy()})]


def test_initializers_have_the_names_of_parameters_and_buffers(graph: Graph, mixed: nn.Module) -> None:
    made_by_the_exporter = {item.name for item in graph.proto.graph.initializer if item.name.startswith("val_")}

    names = {item.name for item in graph.proto.graph.initializer} - made_by_the_exporter

    expected = {"bare.weight", "bn1.bias", "own.weight", "own.bias", "token.weight.T", "token.bias", "scale"}
    assert expected | {"head.weight", "head.bias", "again.bias"} == names
    sizes = [len(item.dims) for item in graph.proto.graph.initializer if item.name in made_by_the_exporter]
    assert [] == [axes for axes in sizes if axes > 1]


def test_the_bias_that_folding_makes_is_the_norms_shift(graph: Graph, mixed: nn.Module) -> None:
    norm = mixed.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    expected = (norm.bias - norm.running_mean * scale).detach().numpy()

    values = {item.name: numpy_helper.to_array(item) for item in graph.proto.graph.initializer}

    np.testing.assert_allclose(values["bn1.bias"], expected, rtol=1e-5, atol=1e-6)


def test_a_matmuls_weight_is_the_transposed_parameter_with_its_zeros(
    graph: Graph, mixed: nn.Module, mask: Mask
) -> None:
    values = {item.name: numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
    kept = mask["token.weight"].numpy()

    assert np.array_equal((mixed.get_parameter("token.weight").detach().numpy() * kept).T, values["token.weight.T"])
    assert np.array_equal(~kept.T, values["token.weight.T"] == 0)


def test_renaming_changes_no_answer(graph: Graph, mixed: nn.Module, mask: Mask) -> None:
    masked = Mixed()
    masked.load_state_dict(mixed.state_dict())
    mask.apply_(masked)
    with torch.no_grad():
        expected = masked.eval()(SAMPLE).numpy()

    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(run(graph, SAMPLE)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "names"), [("keys", ["scores", "inner_pooled_mean"]), ("tuple", ["logits", "output_1"])]
)
def test_each_output_has_a_name(kind: str, names: list[str]) -> None:
    model = Several(kind).eval()

    graph = export(model, SAMPLE)

    assert names == [value.name for value in graph.proto.graph.output]
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, SAMPLE)[1], SAMPLE.mean((2, 3)).numpy() * 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [17, 18, 22, 23])
def test_the_opset_asked_for_is_the_one_written(mixed: nn.Module, opset: int) -> None:
    graph = export(mixed, SAMPLE, opset=opset)

    onnx.checker.check_model(graph.proto, full_check=True)
    assert {"": opset} == {item.domain: item.version for item in graph.proto.opset_import}
    with torch.no_grad():
        expected = mixed(SAMPLE).numpy()
    np.testing.assert_allclose(run(graph, SAMPLE)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 24])
def test_an_opset_that_nobody_writes_is_refused(opset: int) -> None:
    with pytest.raises(ExportError, match=rf"opset must be 17 to 23; got {opset}"):
        export(nn.Conv2d(3, 4, 1), SAMPLE, opset=opset)


def test_an_operator_without_a_form_at_opset_17_is_named() -> None:
    class Splits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, second = x.chunk(2, dim=2)
            return first - second

    with pytest.raises(ExportError, match=r"operator Split has no form at opset 17 that means the same; .* 18"):
        export(Splits(), SAMPLE, opset=17)


@pytest.mark.parametrize("side", [(12, 8), (9, 15)])
def test_a_graph_of_dynamic_size_takes_other_sizes(side: tuple[int, int], mixed: nn.Module, sizeless: Graph) -> None:
    images = torch.randn(3, 3, *side, generator=torch.Generator().manual_seed(side[0]))
    with torch.no_grad():
        expected = mixed(images).numpy()

    np.testing.assert_allclose(run(sizeless, images)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def sizeless(mixed: nn.Module) -> Graph:
    return export(mixed, SAMPLE, dynamic_size=True)


def test_dynamic_axes_have_names(sizeless: Graph) -> None:
    (value,) = sizeless.proto.graph.input

    axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    assert ["batch", 3, "height", "width"] == axes


@pytest.mark.parametrize("fixed", ["flattened", "compared"])
def test_a_model_of_one_size_is_refused_in_one_line(fixed: str) -> None:
    class OneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 64 if fixed == "flattened" else 3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if fixed == "compared" and x.shape[2] != 8:
                raise ValueError("only 8 pixels")
            logits: torch.Tensor = self.fc(x.flatten(1) if fixed == "flattened" else x.mean((2, 3)))
            return logits

    with pytest.raises(ExportError, match=r"takes no images of other sizes: .*leave --dynamic-size away") as caught:
        export(OneSize(), SAMPLE, dynamic_size=True)

    assert str(caught.value).isprintable()


def test_an_operator_that_onnx_has_not_is_named_with_what_to_do() -> None:
    class Bessel(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(ExportError, match=r"operator prims\.bessel_j0 has no ONNX form at opset 20; write it"):
        export(Bessel(), SAMPLE)


def test_a_model_that_answers_no_tensor_is_refused() -> None:
    class Words(nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return "cat"

    with pytest.raises(ExportError, match="must answer tensors; got str"):
        export(Words(), SAMPLE)


IN_A_PROCESS = """
import sys, torch
from ntksap_export import models
from ntksap_export.graph import export, optimize
torch.manual_seed({seed})
model = models.build("lenet5", 7, seed=3)
sys.stdout.buffer.write(optimize(export(model, torch.randn(1, 3, 32, 32)))[0].to_bytes())
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes() -> None:
    def written(seed: int) -> bytes:
        script = IN_A_PROCESS.format(seed=seed)
        variables = {**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(seed)}
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, env=variables, cwd=Path(__file__).parent
        ).stdout

    first, second = written(1), written(2)

    assert len(first) > 10_000
    assert first == second


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:test_resnet", "timm:test_vit"])
def test_classifiers_of_others_are_exported_with_their_names(name: str) -> None:
    torchvision_models()
    if name.startswith("timm"):
        pytest.importorskip("timm")
    size = 160 if name == "timm:test_vit" else 64
    model = networks.build(name, 5).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(images).numpy()

    graph = export(model, images, mask=Mask.dense(model))

    unnamed = set(Mask.dense(model)) - {one.name.removesuffix(".T") for one in graph.proto.graph.initializer}
    assert set() == unnamed
    np.testing.assert_allclose(run(optimize(graph)[0], images)[0], expected, rtol=1e-3, atol=1e-4)
