from __future__ import annotations

import copy
import logging
import re
import site
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from torch import nn

from ntksap_export.errors import CheckpointError, ExportError
from ntksap_export.graph import INPUT_NAME, OUTPUT_NAME, Graph, check_zeros, export, optimize
from ntksap_export.graph.opset import check_written
from ntksap_export.masks import Mask

from .conftest import Case, season_
from .graph_cases import parse


class Small(nn.Module):
    """A convolution, a norm and a classifier: exported in under a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
        return logits


class Branching(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits if logits.sum() > 0 else -logits


class Conditional(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        chosen: torch.Tensor = torch.cond(logits.sum() > 0, torch.sin, torch.cos, (logits,))
        return chosen


class NoSuchOperator(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(super().forward(x))


class Complaining(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("only for the brave\nand more")


SMALL_SAMPLE = torch.zeros(1, 3, 8, 8)


def _run(graph: Graph, images: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: images.numpy()})[0])


def _opset(graph: Graph) -> dict[str, int]:
    return {item.domain: item.version for item in graph.proto.opset_import}


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def test_graph_is_valid_with_the_promised_interface(case: Case) -> None:
    graph = case.graph.proto.graph
    onnx.checker.check_model(case.graph.proto, full_check=True)

    assert ["images"] == [value.name for value in graph.input]
    assert ["logits"] == [value.name for value in graph.output]
    assert ["batch", 3, 32, 32] == _shape(graph.input[0])
    assert ["batch", 7] == _shape(graph.output[0])
    assert {"": 20} == _opset(case.graph)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_graph_gives_the_masked_models_logits_at_any_batch(case: Case, batch: int) -> None:
    masked = copy.deepcopy(case.model)
    case.mask.apply_(masked)
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = masked.eval()(images).numpy()

    actual = _run(case.graph, images)

    assert (batch, 7) == actual.shape
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


def test_norms_are_folded_into_the_convolutions(case: Case) -> None:
    norm = case.model.get_submodule("bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = case.model.get_parameter("conv1.weight").double() * case.mask["conv1.weight"]
    expected = (weight * scale[:, None, None, None]).detach().numpy()

    kinds = {node.op_type for node in case.graph.proto.graph.node}

    assert "BatchNormalization" not in kinds
    np.testing.assert_allclose(dict(case.graph.weights())["conv1.weight"], expected, rtol=1e-5, atol=1e-7)


def test_exactly_the_pruned_weights_are_zero(case: Case) -> None:
    weights = dict(case.graph.weights())
    pruned = {name: (~kept).numpy() for name, kept in case.mask.items()}

    assert set(weights) == set(case.mask)
    assert all(np.array_equal(weights[name] == 0, pruned[name]) for name in pruned)
    assert 0 < case.mask.kept < case.mask.total


def test_parameters_are_the_initializers_named_like_them(case: Case) -> None:
    names = {item.name for item in case.graph.proto.graph.initializer}

    assert set(case.mask) <= set(case.graph.parameters)
    assert "fc.bias" in case.graph.parameters
    assert set(case.graph.parameters) <= names


def test_same_model_gives_the_same_bytes(case: Case) -> None:
    again = export(case.model, case.sample, mask=case.mask)

    assert case.graph.to_bytes() == again.to_bytes()
    assert optimize(case.graph)[0].to_bytes() == optimize(again)[0].to_bytes()


def test_opset_18_is_written_when_asked_for(case: Case) -> None:
    graph = export(case.model, case.sample, opset=18, mask=case.mask)

    onnx.checker.check_model(graph.proto)
    assert {"": 18} == _opset(graph)
    assert "BatchNormalization" not in {node.op_type for node in graph.proto.graph.node}
    np.testing.assert_allclose(_run(graph, case.sample), _run(case.graph, case.sample), atol=1e-5, rtol=1e-5)


def test_opset_the_exporter_does_not_write_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"asked for opset 19, the exporter wrote 20; choose --opset 20"):
        check_written(parse(), 19)


def test_optimized_graph_tells_nothing_about_this_machine(optimized: Graph) -> None:
    content = optimized.to_bytes()
    checkout = Path(__file__).resolve().parents[2]
    places = {str(checkout), str(Path.home()), sys.prefix, *site.getsitepackages()} - {"/"}

    assert [] == [place for place in places if place.encode() in content]
    _check_no_notes(optimized)


def test_branches_tell_nothing_either() -> None:
    graph, _ = optimize(export(Conditional(), SMALL_SAMPLE))

    assert "If" in {node.op_type for node in graph.proto.graph.node}
    assert str(Path(__file__).parent).encode() not in graph.to_bytes()
    _check_no_notes(graph)


def _check_no_notes(graph: Graph) -> None:
    bare = copy.deepcopy(graph.proto)
    for item in bare.graph.initializer:
        item.ClearField("raw_data")  # weights may spell anything
    text = text_format.MessageToString(bare)
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    assert {"images", "logits", "Conv"} <= set(strings)
    assert [] == [string for string in strings if "/" in string or ".py" in string]
    assert "metadata_props" not in text
    assert None is re.search(r'doc_string: "[^"]', text)


def test_model_and_random_state_are_left_as_they_were() -> None:
    model = Small().train()
    season_(model)
    model.bn.eval()
    model.fc.bias.requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mask = Mask({"conv.weight": torch.zeros(4, 3, 3, 3, dtype=torch.bool)})
    sample = torch.randn(3, 3, 8, 8)
    before = _everything(model)
    images, random = sample.clone(), torch.get_rng_state()
    level = logging.getLogger("torch.onnx").level

    export(model, sample, mask=mask)

    assert before == _everything(model)
    assert torch.equal(images, sample)
    assert torch.equal(random, torch.get_rng_state())
    assert level == logging.getLogger("torch.onnx").level


def _everything(model: nn.Module) -> dict[str, object]:
    tensors = model.state_dict(keep_vars=True)
    return {
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()),
        **{
            name: (id(value), value.tolist(), value.stride(), value.dtype, value.device, value.requires_grad)
            for name, value in tensors.items()
        },
    }


def test_half_precision_model_gives_a_float32_graph() -> None:
    model = Small().to(torch.bfloat16)

    graph = export(model, SMALL_SAMPLE.to(torch.bfloat16))

    assert {onnx.TensorProto.FLOAT} == {item.data_type for item in graph.proto.graph.initializer if len(item.dims) > 1}
    assert torch.bfloat16 == model.fc.weight.dtype


@pytest.mark.parametrize(
    ("model", "words"),
    [(Branching(), "data-dependent"), (NoSuchOperator(), "bessel_j0"), (Complaining(), "only for the brave")],
)
def test_model_that_cannot_be_exported_is_one_plain_line(model: nn.Module, words: str) -> None:
    with pytest.raises(ExportError) as caught:
        export(model, SMALL_SAMPLE)

    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_mask_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'conv9\.weight'"):
        export(Small(), SMALL_SAMPLE, mask=Mask({"conv9.weight": torch.ones(1, dtype=torch.bool)}))


def test_check_zeros_names_a_weight_that_is_not_zero() -> None:
    graph = Graph(parse(), ("w", "b"))
    zeros = torch.tensor([[True, False], [True, True], [False, True]])

    check_zeros(graph, Mask({"w": zeros}))

    with pytest.raises(ExportError, match="pruned weights of 'w' are not zero"):
        check_zeros(graph, Mask({"w": torch.zeros(3, 2, dtype=torch.bool)}))


class Standardized(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        result: torch.Tensor = self._conv_forward(x, centred / (centred.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)
        return result


def test_a_layer_that_computes_its_weight_is_named_and_may_stay_whole() -> None:
    model = Small()
    model.conv = Standardized(3, 4, 3, padding=1)
    dense = dict(Mask.dense(model))
    some = {"conv.weight": torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5}

    with pytest.raises(ExportError) as caught:
        export(model, SMALL_SAMPLE, mask=Mask({**dense, **some}))
    graph = export(model, SMALL_SAMPLE, mask=Mask(dense))

    assert (
        "the graph has no weight 'conv.weight': layer 'conv' computes another one of it in forward, where a pruned "
        "weight may be no zero; prune with --keep-dense conv, or store what it computes as its weight"
    ) == str(caught.value)
    assert "fc.weight" in dict(graph.weights())


def test_check_zeros_names_a_weight_that_is_missing() -> None:
    graph = Graph(parse(), ("w", "b"))

    with pytest.raises(ExportError, match=r"no weight 'fc\.weight'"):
        check_zeros(graph, Mask({"fc.weight": torch.zeros(3, 2, dtype=torch.bool)}))
