"""Each operator that the engine covers, over its attributes, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ntksap_export.engine import convert
from ntksap_export.errors import ExportError
from tests.engine.engine_cases import agreed, drawn, graph_of, images, kinds, node

FEW = settings(max_examples=60, deadline=None)
sizes = st.integers(1, 11)
DENSITIES = (0.0, 0.1, 0.5, 1.0)


def seen_and_used(
    nodes: list[Any], stored: dict[str, Any], shape: tuple[int | str, ...], channels: int, **more: Any
) -> Any:
    """`nodes` make y from x; a convolution of y makes the region worth a call, and y stays seen."""
    stored = {**stored, "head": drawn(2, channels, 1, 1, seed=9)}
    return graph_of([*nodes, node("Conv", "y head", "z")], stored, shape, "y z", **more)


@st.composite
def windows(draw: st.DrawFn, pads_below_kernel: bool) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    how = draw(st.sampled_from(["pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none"]))
    if "SAME" not in how and draw(st.booleans()):  # onnxruntime refuses the two together
        attributes["dilations"] = [draw(st.integers(1, 2)), draw(st.integers(1, 2))]
    if how == "pads":
        most = [size - 1 if pads_below_kernel else 3 for size in (*kernel, *kernel)]
        attributes["pads"] = [draw(st.integers(0, end)) for end in most]
    elif how != "none":
        attributes["auto_pad"] = how
    return attributes


@FEW
@given(
    window=windows(pads_below_kernel=False),
    height=sizes,
    width=sizes,
    groups=st.sampled_from([1, 1, 2, 4]),
    data=st.data(),
)
def test_convolutions(window: dict[str, Any], height: int, width: int, groups: int, data: st.DataObject) -> None:
    out, own = groups * data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    density = data.draw(st.sampled_from(DENSITIES))
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window.get("dilations", [1, 1]), strict=True)]
    pads = window.get("pads", [0, 0, 0, 0])
    if "SAME" not in window.get("auto_pad", ""):
        assume(height + pads[0] + pads[2] >= reach[0] and width + pads[1] + pads[3] >= reach[1])
    stored = {"w": drawn(out, own, *window["kernel_shape"], density=density), "b": drawn(out)}
    inputs = "x w b" if data.draw(st.booleans()) else "x w"
    graph = graph_of(
        [node("Conv", inputs, "y", group=groups, **window)], stored, ("batch", own * groups, height, width)
    )
    try:
        converted = convert(graph)
    except ExportError as error:
        assert "its padding goes further than its kernel" in str(error)
        return

    assert ("the_y",) == converted.covered
    agreed(graph, images(2, own * groups, height, width))


def holds_something(side: int, window: dict[str, Any], axis: int) -> bool:
    """Whether no window of a pool lies in the padding alone: that is -inf or NaN, and left to onnxruntime."""
    kernel, stride, dilation = (window.get(name, [1, 1])[axis] for name in ("kernel_shape", "strides", "dilations"))
    before, after = (window.get("pads", [0, 0, 0, 0])[axis + end] for end in (0, 2))
    last = side + after - (kernel - 1) * dilation
    taps = ([start + tap * dilation for tap in range(kernel)] for start in range(-before, last, stride))
    return all(any(0 <= at < side for at in window_taps) for window_taps in taps)


@FEW
@given(
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    window=windows(pads_below_kernel=True),
    height=sizes,
    width=sizes,
    ceil=st.booleans(),
    counted=st.booleans(),
)
def test_pools(op: str, window: dict[str, Any], height: int, width: int, ceil: bool, counted: bool) -> None:
    if ceil and "auto_pad" not in window:  # onnx and onnxruntime disagree on the two together
        window["ceil_mode"] = 1
    if counted and op == "AveragePool":
        window["count_include_pad"] = 1
    reach = [(k - 1) * d + 1 for k, d in zip(window["kernel_shape"], window.get("dilations", [1, 1]), strict=True)]
    pads = window.get("pads", [0, 0, 0, 0])
    assume(height + pads[0] + pads[2] >= reach[0] and width + pads[1] + pads[3] >= reach[1])
    assume(all(holds_something(side, window, axis) for axis, side in enumerate((height, width))))
    if "SAME" in window.get("auto_pad", ""):  # onnxruntime refuses strides beyond the kernel that skip the plane's end
        sides = zip((height, width), window["kernel_shape"], window.get("strides", [1, 1]), strict=True)
        assume(all((-(-size // stride) - 1) * stride + kernel >= size for size, kernel, stride in sides))
    graph = seen_and_used([node(op, "x", "y", **window)], {}, ("batch", 2, height, width), 2)
    try:
        converted = agreed(graph, images(2, 2, height, width))
    except ExportError as error:
        assert "onnx may be wrong about the shape" in str(error)
        return

    assert () == converted.left


ACTIVATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Relu": ("Relu", "x", {}),
    "LeakyRelu": ("LeakyRelu", "x", {"alpha": 0.2}),
    "LeakyRelu by default": ("LeakyRelu", "x", {}),
    "HardSigmoid": ("HardSigmoid", "x", {"alpha": 0.3, "beta": 0.4}),
    "HardSigmoid by default": ("HardSigmoid", "x", {}),
    "HardSwish": ("HardSwish", "x", {}),
    "Sigmoid": ("Sigmoid", "x", {}),
    "Tanh": ("Tanh", "x", {}),
    "Elu": ("Elu", "x", {"alpha": 0.7}),
    "Clip": ("Clip", "x low high", {}),
    "Clip below": ("Clip", "x _ high", {}),
    "Clip above": ("Clip", "x low", {}),
    "PRelu": ("PRelu", "x high", {}),
    "Neg": ("Neg", "x", {}),
    "Identity": ("Identity", "x", {}),
    "Dropout": ("Dropout", "x", {}),
    "Dropout, said not to train": ("Dropout", "x _ no", {}),
    "Add number": ("Add", "x high", {}),
    "Add, flipped": ("Add", "each x", {}),
    "Sub": ("Sub", "x each", {}),
    "Sub, flipped": ("Sub", "each x", {}),
    "Mul": ("Mul", "x each", {}),
    "Mul with four axes": ("Mul", "x full", {}),
    "Div": ("Div", "x full", {}),
    "BatchNormalization": ("BatchNormalization", "x scale shift mean variance", {"epsilon": 0.01}),
    "GlobalAveragePool": ("GlobalAveragePool", "x", {}),
    "GlobalMaxPool": ("GlobalMaxPool", "x", {}),
    "ReduceMean": ("ReduceMean", "x plane", {}),
    "ReduceMean from behind": ("ReduceMean", "x behind", {"keepdims": 1}),
    "ReduceMean of channels": ("ReduceMean", "x channels", {"keepdims": 1}),
    "ReduceMax": ("ReduceMax", "x plane", {"keepdims": 1}),
    "Concat": ("Concat", "x x", {"axis": 1}),
    "Concat from behind": ("Concat", "x x", {"axis": -3}),
    "Add of two": ("Add", "x x", {}),
    "Sum of two": ("Sum", "x x", {}),
    "Mul of two": ("Mul", "x x", {}),
    "Pad": ("Pad", "x around", {}),
    "Pad further than any kernel": ("Pad", "x far", {}),
    "Pad of two axes": ("Pad", "x two _ plane", {}),
    "Pad of none": ("Pad", "x none", {}),
}  # fmt: skip
STORED = {
    "low": np.float32(-0.5), "high": np.float32(0.8), "no": np.array(False),
    "each": np.array([0.5, -1.5, 2.0], np.float32).reshape(3, 1, 1),
    "full": np.array([0.5, -1.5, 2.0], np.float32).reshape(1, 3, 1, 1),
    "scale": np.array([0.5, -1.5, 0.0], np.float32), "shift": np.array([0.5, 0.0, 2.0], np.float32),
    "mean": np.array([0.1, -0.2, 0.0], np.float32), "variance": np.array([0.5, 1.5, 2.0], np.float32),
    "plane": np.array([2, 3]), "behind": np.array([-1, -2]), "channels": np.array([1]),
    "around": np.array([0, 0, 1, 0, 0, 0, 2, 3]), "far": np.array([0, 0, 9, 8, 0, 0, 7, 6]),
    "two": np.array([1, 2, 3, 0]), "none": np.array([0] * 8),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_operators_on_planes(name: str, batch: int) -> None:
    op, inputs, attributes = ACTIVATIONS[name]
    used = {each: np.asarray(value) for each, value in STORED.items() if each in inputs.split()}
    channels = {"Concat": 6, "ReduceMean of channels": 1}.get(name if "of channels" in name else op, 3)
    graph = seen_and_used([node(op, inputs, "y", **attributes)], used, ("batch", 3, 6, 5), channels)
    converted = agreed(graph, 2 * images(batch, 3, 6, 5))

    assert () == converted.left


ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Gemm": ("Gemm", "x w b", {}),
    "Gemm without bias": ("Gemm", "x w", {}),
    "Gemm transposed, with factors": ("Gemm", "x wt b", {"transB": 1, "alpha": 0.5, "beta": -2.0}),
    "Gemm with a row of biases": ("Gemm", "x w row", {}),
    "Gemm with one bias": ("Gemm", "x w one", {}),
    "MatMul": ("MatMul", "x w", {}),
    "BatchNormalization": ("BatchNormalization", "x s b5 m v", {}),
    "Add": ("Add", "x b5", {}),
    "Relu": ("Relu", "x", {}),
    "Concat": ("Concat", "x x", {"axis": -1}),
    "Flatten": ("Flatten", "x", {}),
    "Unsqueeze": ("Unsqueeze", "x plane", {}),
    "Reshape to planes": ("Reshape", "x planes", {}),
    "Mul": ("Mul", "x x", {}),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("density", DENSITIES)
def test_operators_on_rows(name: str, density: float) -> None:
    op, inputs, attributes = ROWS[name]
    weight = drawn(5, 4, density=density)
    stored = {
        "w": weight, "wt": np.ascontiguousarray(weight.T), "b": drawn(4), "row": drawn(1, 4), "one": drawn(1),
        "b5": drawn(5), "s": drawn(5), "m": drawn(5), "v": np.abs(drawn(5)), "plane": np.array([2, 3]),
        "planes": np.array([0, -1, 1, 1]), "head": drawn({"Concat": 10}.get(op, 5), 3),
    }  # fmt: skip
    product = op in ("Gemm", "MatMul")
    last = "Flatten" if op in ("Unsqueeze", "Reshape") else "Identity"
    head = [] if product else [node(last, "y", "f"), node("MatMul", "f head", "z")]
    used = {
        each: stored[each]
        for each in {*inputs.split()[1:], "head"}
        if each in stored and not (product and each == "head")
    }
    graph = graph_of([node(op, inputs, "y", **attributes), *head], used, ("batch", 5), "y" if product else "y z")
    converted = agreed(graph, images(3, 5))

    assert () == converted.left


FLAT: dict[str, list[Any]] = {
    "Flatten": [node("Flatten", "x", "y")],
    "Flatten from behind": [node("Flatten", "x", "y", axis=-3)],
    "Reshape by 0 and -1": [node("Reshape", "x by_0", "y")],
    "Reshape by -1 and the size": [node("Reshape", "x by_size", "y")],
    "Reshape by its shape": [
        node("Shape", "x", "s"), node("Gather", "s first", "n", axis=0), node("Concat", "n rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("seen", ["y z", "z"])
def test_flattening(name: str, seen: str) -> None:
    stored = {
        "by_0": np.array([0, -1]), "by_size": np.array([-1, 36]), "first": np.array([0]), "rest": np.array([36]),
        "w": drawn(36, 5, density=0.3),
    }  # fmt: skip
    used = {
        each: value for each, value in stored.items() if any(each in item.input for item in FLAT[name]) or each == "w"
    }
    graph = graph_of([*FLAT[name], node("MatMul", "y w", "z")], used, ("batch", 4, 3, 3), seen)
    converted = agreed(graph, images(2, 4, 3, 3))

    assert (["Flatten", "Conv"] if "y" in seen else ["Conv"]) == kinds(converted)


def test_old_attribute_forms() -> None:
    nodes = [
        node("Pad", "x", "padded", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0),
        node("Conv", "padded w", "c"),
        node("Clip", "c", "clipped", min=0.0, max=0.5),
        node("ReduceMean", "clipped", "mean", axes=[2, 3]),
        node("Squeeze", "mean", "y", axes=[2, 3]),
    ]
    graph = graph_of(nodes, {"w": drawn(4, 3, 3, 3)}, opset=10, ir_version=3)
    converted = agreed(graph, images(2, 3, 8, 8))

    assert ["Conv", "GlobalPool"] == kinds(converted)
    assert () == converted.left
