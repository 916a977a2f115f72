"""fp16: rounding, zeros, inputs and outputs, and numbers that it does not have."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.graph.precision import check_fp16, named
from ntksap_export.runtime.half import check_activations, to_fp16
from ntksap_export.runtime.ort import OrtSession

from .precision_cases import batches, initializers, small_graph


def changed(name: str, place: tuple[int, ...], value: float) -> Graph:
    """The small graph with one number changed."""
    graph = named(small_graph())
    for item in graph.proto.graph.initializer:
        if item.name == name:
            values = onnx.numpy_helper.to_array(item).copy()
            values[place] = value
            item.CopyFrom(onnx.numpy_helper.from_array(values, name))
    return graph


def test_each_weight_is_the_nearest_half_and_zeros_stay() -> None:
    graph = named(small_graph())
    found = initializers(to_fp16(graph))

    for name, value in initializers(graph).items():
        np.testing.assert_array_equal(value.astype(np.float16), found[name])
        assert not found[name][value == 0].any()


@pytest.mark.parametrize("optimization", ["off", "all"])
@pytest.mark.parametrize("float_io", [True, False])
def test_it_runs_and_answers_alike(float_io: bool, optimization: str) -> None:
    graph = named(small_graph())
    half = to_fp16(graph, float_io=float_io)
    (images,) = batches(1)
    kind = onnx.TensorProto.FLOAT if float_io else onnx.TensorProto.FLOAT16
    with (
        OrtSession(graph.to_bytes()) as before,
        OrtSession(half.to_bytes(), optimization=optimization, threads=1) as after,
    ):
        expected, actual = before.run(images), after.run(images)
        after.bind(images)()

    assert [kind, kind] == [
        item.type.tensor_type.elem_type for item in (half.proto.graph.input[0], half.proto.graph.output[0])
    ]
    assert ["images", "logits"] == [half.proto.graph.input[0].name, half.proto.graph.output[0].name]
    assert np.float32 == actual.dtype
    assert 0 < np.abs(actual - expected).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize(("value", "expected"), [(1e-9, 0.0), (-(2.0**-25), 0.0), (4e-8, 2.0**-24), (3e-6, 3e-6)])
def test_tiny_numbers_round_to_the_nearest_and_not_up_to_the_smallest(value: float, expected: float) -> None:
    found = initializers(to_fp16(changed("conv1.weight", (0, 0, 0, 0), value)))["conv1.weight"][0, 0, 0, 0]

    assert float(np.float16(expected)) == float(found)


@pytest.mark.parametrize("value", [65520.0, -1e9, float("inf"), float("nan")])
def test_a_weight_beyond_fp16_is_refused(value: float) -> None:
    with pytest.raises(ExportError, match=r"^'conv1\.weight' holds [^\n]*; fp16 ends at 65504\. Leave --fp16 away"):
        to_fp16(changed("conv1.weight", (0, 0, 0, 0), value))


def test_an_activation_beyond_fp16_is_refused() -> None:
    graph = changed("conv1.bias", (0,), 40_000.0)

    with pytest.raises(ExportError, match=r"^'(first|active|second|summed|swished)' reaches .*fp16 ends at 65504"):
        check_activations(graph, batches(1))


def test_activations_within_fp16_are_measured() -> None:
    graph = named(small_graph())

    reached = check_activations(graph, batches())

    assert 1 < reached < 1000


def test_equal_graphs_give_equal_bytes_and_the_source_stays() -> None:
    graph = named(small_graph())
    before = graph.to_bytes()

    assert to_fp16(graph).to_bytes() == to_fp16(named(small_graph())).to_bytes()
    assert before == graph.to_bytes()


def test_a_weight_that_was_not_rounded_so_is_found() -> None:
    graph = named(small_graph())
    half = to_fp16(graph)
    for item in half.proto.graph.initializer:
        if item.name == "fc.weight":
            item.CopyFrom(onnx.numpy_helper.from_array(np.full((5, 8), 2, np.float16), item.name))

    with pytest.raises(ExportError, match=r"'fc\.weight' was not rounded to the nearest fp16"):
        check_fp16(half, graph)
