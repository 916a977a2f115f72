"""The first node where a graph and its model part: faults put in one place are found there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from ntksap_export import models
from ntksap_export.graph import Graph, export, exposed, optimize, steps
from ntksap_export.runtime import locate as module
from ntksap_export.runtime.divergence import Divergence
from ntksap_export.runtime.locate import locate
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.parity import Limits
from ntksap_export.runtime.session import Images, Outputs
from ntksap_export.runtime.verify import verify
from tests.support.nets import block_net, tiny_net

LIMITS = Limits(1e-5, 1e-4)


def _images(batch: int = 2, size: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)


def _exported(model: nn.Module) -> Graph:
    return optimize(export(model, torch.zeros(1, 3, 12, 12)))[0]


def _changed(graph: Graph, change: Callable[[onnx.ModelProto], None]) -> Graph:
    proto = copy.deepcopy(graph.proto)
    change(proto)
    return Graph(proto, graph.parameters)


def _scaled(name: str, by: float) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        (item,) = (item for item in proto.graph.initializer if item.name == name)
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(by), name))

    return change


def _found(model: nn.Module, graph: Graph) -> Divergence:
    found = locate(model, graph, _images(), LIMITS)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["conv1", "conv2", "fc"])
def test_changed_weights_are_found_at_their_module(name: str) -> None:
    model = tiny_net()
    graph = _changed(_exported(model), _scaled(f"{name}.weight", 1.5))
    (expected,) = (step for step in steps(graph) if f"{name}.weight" in step.parameters)

    found = _found(model, graph)

    assert (name, expected.name, None) == (found.module, found.node, found.until)
    assert found.max_abs > 1e-3 * found.scale > 0


def test_the_model_itself_has_no_such_place() -> None:
    model = tiny_net()

    assert locate(model, _exported(model), _images(), LIMITS) is None


@pytest.mark.parametrize("name", ["conv1", "layer1.1.conv2", "layer3.0.conv1", "fc"])
def test_place_in_a_residual_network_is_the_first_of_all_that_differ(name: str) -> None:
    model = models.build("resnet20", 10, seed=0).eval()
    sound = optimize(export(model, torch.zeros(1, 3, 32, 32)))[0]
    graph = _changed(sound, _scaled(f"{name}.weight", 1.01))

    found = locate(model, graph, _images(size=32), LIMITS)

    assert found is not None
    assert name == found.module
    assert "torch and onnxruntime (off)" == found.between


def test_operator_between_two_modules_is_found_between_them() -> None:
    model = tiny_net()

    def change(proto: onnx.ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Softplus"

    found = _found(model, _changed(_exported(model), change))

    assert ("Softplus", "conv1", "conv2", None) == (found.op_type, found.after, found.module, found.until)


def test_fault_after_the_last_module_is_named_by_its_node() -> None:
    model = tiny_net()

    def change(proto: onnx.ModelProto) -> None:
        last = proto.graph.node[-1]
        last.output[0] = "before"
        proto.graph.node.append(onnx.helper.make_node("Neg", ["before"], ["logits"], name="turned"))

    found = _found(model, _changed(_exported(model), change))

    assert ("turned", "Neg", None, "fc") == (found.node, found.op_type, found.module, found.after)


def test_fault_in_a_sum_is_found_before_the_next_module() -> None:
    model = block_net()

    def change(proto: onnx.ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "Add").op_type = "Sub"

    found = _found(model, _changed(_exported(model), change))

    assert ("Sub", "fc") == (found.op_type, found.module)
    assert found.until is not None


def test_model_is_left_without_hooks_and_unchanged() -> None:
    model = tiny_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    _found(model, _changed(_exported(model), _scaled("conv2.weight", 2)))

    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_activations_in_place_do_not_hide_what_was_there() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.bn = nn.BatchNorm2d(4)
            self.relu = nn.ReLU(inplace=True)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.relu(self.bn(self.conv(x))).mean((2, 3)))
            return logits

    torch.manual_seed(0)
    model = InPlace().eval()
    graph = _exported(model)

    assert locate(model, graph, _images(), LIMITS) is None
    assert "fc" == _found(model, _changed(graph, _scaled("fc.weight", 2))).module


def test_exposed_graph_gives_the_values_of_its_steps() -> None:
    graph = _exported(tiny_net())
    names = [step.outputs[0] for step in steps(graph)]

    with OrtSession(graph.to_bytes(), optimization="off") as plain:
        expected = plain.run(_images())
    with OrtSession(exposed(graph, names).to_bytes(), optimization="off") as wide:
        actual = dict(zip(wide.output_names, wide.run_all(_images()), strict=True))

    assert set(names) == set(actual)
    assert np.array_equal(expected, actual["logits"])


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("faulty", [1, 3])
def test_fault_of_an_optimization_is_found_also_if_it_hides_from_being_looked_at(
    hides: bool, faulty: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fusion is gone when each of its values is an output, and with it what it does wrong."""
    graph = _exported(tiny_net())
    order = [step.outputs[0] for step in steps(graph)]

    class Broken(OrtSession):
        def run_all(self, images: Images) -> Outputs:
            answers, names = super().run_all(images), self.output_names
            if self.options["graph_optimization"] == "off" or (hides and len(names) > 2):
                return answers
            return tuple(
                value + np.float32(order.index(name) >= faulty) for name, value in zip(names, answers, strict=True)
            )

    monkeypatch.setattr(module, "OrtSession", Broken)
    found = locate(tiny_net(), graph, _images(), LIMITS, "all")

    assert found is not None
    assert order[faulty] == found.value
    assert "onnxruntime (off) and (all)" == found.between


def test_verify_names_the_place_in_its_complaint() -> None:
    model = tiny_net()
    graph = _changed(_exported(model), _scaled("conv2.weight", 1.5))

    parity = verify(model, graph, _images(7), LIMITS)

    assert not parity.passed
    assert parity.divergence is not None
    assert "conv2" == parity.divergence.module
    assert "part first at Conv" in parity.complaint()
    assert "(module conv2)" in parity.complaint()
    assert 1 == len(parity.complaint().splitlines())


def test_verify_tries_every_batch_level_and_kind_of_image() -> None:
    model = tiny_net()

    parity = verify(model, _exported(model), _images(3), LIMITS)

    assert parity.passed
    assert not parity.vacuous
    assert parity.divergence is None
    assert {
        (batch, level, source) for batch in (1, 2, 7) for level in ("off", "all") for source in ("real", "noise")
    } == {(check.batch, check.optimization, check.images) for check in parity.checks}


def test_graph_that_fixed_its_batch_does_not_pass() -> None:
    model = tiny_net()

    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    parity = verify(model, _changed(_exported(model), change), _images(3), LIMITS)

    assert {2} == {check.batch for check in parity.checks if check.passed}
    assert "cannot run the graph on" in parity.complaint()
