"""What several nodes become: fewer operators, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntksap_export.engine.operators import Act, Conv, Window
from tests.engine.engine_cases import agreed, drawn, graph_of, images, kinds, node, only_plan

WEIGHTS = {
    "w": drawn(4, 3, 3, 3, density=0.4), "v": drawn(4, 4, 3, 3, seed=2, density=0.4), "u": drawn(4, 4, 1, 1, seed=3),
    "b": drawn(4, seed=4), "gamma": drawn(4, seed=5), "beta": drawn(4, seed=6), "mean": drawn(4, seed=7),
    "variance": np.abs(drawn(4, seed=8)), "three": np.float32(3), "zero": np.float32(0), "six": np.float32(6),
    "each": drawn(4, 1, 1, seed=9), "plane": np.array([2, 3]), "fc": drawn(4, 7),
    "around": np.array([0, 0, 0, 1, 0, 0, 1, 1]),
    "flat": np.array([-1, 4]), "row": drawn(7, seed=3),
}  # fmt: skip
C = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
D = node("Conv", "c v", "d", pads=[1, 1, 1, 1])
E = node("Conv", "c u", "e")
CASES: dict[str, tuple[list[Any], list[str]]] = {
    "norm and activation": (
        [C, node("BatchNormalization", "c gamma beta mean variance", "n"), node("Relu", "n", "y")],
        ["Conv"],
    ),
    "a norm before its convolution": (
        [
            C,
            node("Relu", "c", "r"),
            node("BatchNormalization", "r gamma beta mean variance", "n"),
            node("Conv", "n v", "y"),
        ],
        ["Conv", "Conv", "Conv"],
    ),
    "factors and shifts": (
        [C, node("Mul", "c each", "m"), node("Add", "m each", "a"), node("Div", "a three", "y")],
        ["Conv"],
    ),
    "a factor before a convolution": (
        [C, node("Relu", "c", "r"), node("Mul", "r each", "m"), node("Conv", "m v", "y")],
        ["Conv"] * 2,
    ),
    "residual of the input": ([C, D, node("Add", "d c", "a"), node("Relu", "a", "y")], ["Conv", "Conv"]),
    "residual, flipped": ([C, D, node("Add", "c d", "y")], ["Conv", "Conv"]),
    "residual of two convolutions": ([C, E, D, node("Add", "e d", "a"), node("Relu", "a", "y")], ["Conv"] * 3),
    "residual after an activation": (
        [C, D, node("Relu", "d", "r"), node("Add", "r c", "a"), node("Relu", "a", "y")],
        ["Conv", "Conv", "Add"],
    ),
    "a sum of itself": ([C, node("Add", "c c", "y")], ["Conv", "Add"]),
    "two activations": ([C, node("Relu", "c", "r"), node("Tanh", "r", "y")], ["Conv", "Activate"]),
    "SiLU": ([C, node("Sigmoid", "c", "s"), node("Mul", "c s", "y")], ["Conv"]),
    "SiLU, flipped": ([C, node("Sigmoid", "c", "s"), node("Mul", "s c", "y")], ["Conv"]),
    "HardSwish": ([C, node("HardSigmoid", "c", "s", alpha=1 / 6), node("Mul", "c s", "y")], ["Conv"]),
    "HardSwish in five": (
        [
            C,
            node("Add", "c three", "a"),
            node("Clip", "a zero six", "k"),
            node("Mul", "c k", "m"),
            node("Div", "m six", "y"),
        ],
        ["Conv"],
    ),
    "HardSwish, dividing first": (
        [
            C,
            node("Add", "c three", "a"),
            node("Clip", "a zero six", "k"),
            node("Div", "k six", "g"),
            node("Mul", "c g", "y"),
        ],
        ["Conv"],
    ),
    "HardSigmoid in three": (
        [C, node("Add", "c three", "a"), node("Clip", "a zero six", "k"), node("Div", "k six", "y")],
        ["Conv"],
    ),
    "squeeze and excite": (
        [
            C,
            node("ReduceMean", "c plane", "p"),
            node("Conv", "p u", "q"),
            node("Sigmoid", "q", "s"),
            node("Mul", "s c", "y"),
        ],
        ["Conv", "GlobalPool", "Conv", "Mul"],
    ),
    "padding": ([C, node("Pad", "c around", "p"), node("Conv", "p v", "y")], ["Conv", "Conv"]),
    "padding for two": (
        [
            C,
            node("Pad", "c around", "p"),
            node("Conv", "p v", "d"),
            node("Conv", "p u", "e"),
            node("MaxPool", "e", "f", kernel_shape=[3, 3]),
            node("Add", "d f", "y"),
        ],
        ["Conv", "Conv", "Pool", "Conv"],
    ),
    "padding before a pool": (
        [C, node("Relu", "c", "r"), node("Pad", "r around", "p"), node("MaxPool", "p", "y", kernel_shape=[3, 3])],
        ["Conv", "Conv", "Pool"],
    ),
    "pool, row, product": (
        [
            C,
            node("GlobalAveragePool", "c", "p"),
            node("Flatten", "p", "f"),
            node("MatMul", "f fc", "m"),
            node("Add", "m row", "y"),
        ],
        ["Conv", "GlobalPool", "Conv"],
    ),
    "a pool's row": ([C, node("GlobalAveragePool", "c", "p"), node("Reshape", "p flat", "y")], ["Conv", "GlobalPool"]),
    "other names": ([C, node("Identity", "c", "i"), node("Dropout", "i", "j"), node("Relu", "j", "y")], ["Conv"]),
    "one weight for two": (
        [C, node("Conv", "c v", "d", pads=[1] * 4), node("Mul", "d each", "s"), node("Conv", "s v", "y")],
        ["Conv"] * 3,
    ),
    "later reading of what a norm takes": (
        [
            C,
            node("BatchNormalization", "c gamma beta mean variance", "n"),
            node("Relu", "c", "r"),
            node("Add", "n r", "y"),
        ],
        ["Conv", "Activate", "Conv"],
    ),
}


def seen(name: str, outputs: str = "y") -> Any:
    nodes, _ = CASES[name]
    read = {item for each in nodes for item in each.input}
    return graph_of(nodes, {key: value for key, value in WEIGHTS.items() if key in read}, outputs=outputs)


@pytest.mark.parametrize("name", CASES)
def test_what_merges(name: str) -> None:
    converted = agreed(seen(name), images(2, 3, 8, 8))

    assert () == converted.left
    assert sorted(CASES[name][1]) == sorted(kinds(converted))


@pytest.mark.parametrize("name", CASES)
def test_what_is_seen_outside_stays(name: str) -> None:
    nodes, _ = CASES[name]
    converted = agreed(seen(name, " ".join(item.output[0] for item in nodes)), images(2, 3, 8, 8))

    assert [item.output[0] for item in nodes] == list(converted.graph.proto.graph.node[0].output)


def test_the_epilogue_of_a_convolution() -> None:
    *_, last = only_plan(agreed(seen("residual of the input"), images(2, 3, 8, 8))).operators

    assert isinstance(last, Conv)
    assert (2, Act.RELU) == (len(last.inputs), last.activation.act)


def test_padding_goes_into_the_window() -> None:
    *_, last = only_plan(agreed(seen("padding"), images(2, 3, 8, 8))).operators

    assert isinstance(last, Conv)
    assert Window(3, 3, left=1) == last.window


def test_a_norm_keeps_the_zeros_of_a_weight() -> None:
    (conv,) = only_plan(agreed(seen("norm and activation"), images(2, 3, 8, 8))).operators
    assert isinstance(conv, Conv)

    assert np.count_nonzero(WEIGHTS["w"]) == np.count_nonzero(conv.weights.values)


@pytest.mark.parametrize("side", [3, 70])
def test_a_product_of_a_whole_plane(side: int) -> None:
    """Beyond the plan's largest kernel the plane is flattened first."""
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w", "y", transB=1)]
    graph = graph_of(nodes, {"w": drawn(5, 2 * side * 3, density=0.2)}, ("batch", 2, side, 3))
    converted = agreed(graph, images(2, 2, side, 3))

    assert (["Conv"] if side == 3 else ["Flatten", "Conv"]) == kinds(converted)
