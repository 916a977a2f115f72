"""BatchNormalization behind each kind of layer, against its formula in float64, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.graph.passes import fold_batchnorm
from ntksap_export.graph.passes.outcome import Outcome

from .channel_cases import compacted, draw, emptied, model, reasons, shapes

NORM = "n = BatchNormalization<epsilon = 0.5>(a, gamma, beta, mean, var)"
HEAD = "p = GlobalAveragePool(n) logits = Flatten<axis = 1>(p)"
GAMMA, BETA, MEAN, VAR = draw(1, 4), draw(2, 4), draw(3, 4), np.abs(draw(4, 4))
PARAMETERS = {"gamma": GAMMA, "beta": BETA, "mean": MEAN, "var": VAR}
NAME = "BatchNormalization 'n'"


def values(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def scale() -> np.ndarray:
    return GAMMA.astype(np.float64) / np.sqrt(VAR.astype(np.float64) + 0.5)


@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_takes_its_norm_in(biased: bool) -> None:
    weight, bias = emptied(draw(5, 4, 3, 3, 3), 2), draw(6, 4) if biased else np.zeros(4)
    body = f"a = Conv(images, {'w, b' if biased else 'w'}) {NORM} {HEAD}"
    proto = model(body, w=weight, **({"b": bias.astype(np.float32)} if biased else {}), **PARAMETERS)
    for old, new in (("w", "conv.weight"), ("b", "conv.bias")):  # the text format has no names with dots
        proto.graph.node[0].input[:] = [new if name == old else name for name in proto.graph.node[0].input]
        for item in proto.graph.initializer:
            item.name = new if item.name == old else item.name

    after, outcome = compacted(proto, "fold_batchnorm")

    found = values(after)
    assert {"conv.weight", "conv.bias"} == found.keys()
    np.testing.assert_array_equal(found["conv.weight"], (weight * scale()[:, None, None, None]).astype(np.float32))
    np.testing.assert_array_equal(
        found["conv.bias"], ((bias.astype(np.float64) - MEAN) * scale() + BETA).astype(np.float32)
    )
    assert not np.signbit(found["conv.weight"][2]).any()
    assert ({"layer": "conv.weight", "norm": "n"},) == outcome.changed
    assert ("1 folded, 0 left", ()) == (outcome.said, outcome.left)
    assert ["Conv", "GlobalAveragePool", "Flatten"] == [node.op_type for node in after.graph.node]


@pytest.mark.parametrize(
    ("layer", "constants"),
    [
        ("Conv<group = 2>(images, w, b)", {"w": draw(5, 4, 2, 3, 3), "b": draw(6, 4)}),
        ("ConvTranspose(images, w, b)", {"w": draw(5, 4, 4, 2, 2), "b": draw(6, 4)}),
        ("ConvTranspose<group = 2>(images, w, b)", {"w": draw(5, 4, 2, 2, 2), "b": draw(6, 4)}),
        ("ConvTranspose<group = 4>(images, w)", {"w": draw(5, 4, 1, 2, 2)}),
    ],
)
def test_grouped_and_transposed_convolutions(layer: str, constants: dict[str, np.ndarray]) -> None:
    proto = model(f"a = {layer} {NORM} {HEAD}", shape="batch, 4, 6, 6", **constants, **PARAMETERS)

    after, outcome = compacted(proto, "fold_batchnorm")

    assert 1 == len(outcome.changed)
    assert "BatchNormalization" not in [node.op_type for node in after.graph.node]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("operands", ["flat, w, b", "flat, w"])
def test_a_gemm_with_its_factors(transposed: int, operands: str) -> None:
    weight = draw(5, 4, 108) if transposed else draw(5, 108, 4)
    body = (
        f"flat = Flatten<axis = 1>(images) a = Gemm<alpha = 0.3, beta = 2.5, transB = {transposed}>({operands}) {NORM} "
        "logits = Relu(n)"
    )
    constants = {"w": weight, **({"b": draw(6, 4)} if "b" in operands else {})}

    after, outcome = compacted(model(body, **constants, **PARAMETERS), "fold_batchnorm")

    assert 1 == len(outcome.changed)
    assert ["Flatten", "Gemm", "Relu"] == [node.op_type for node in after.graph.node]


def test_a_gemm_whose_bias_is_one_number_for_each_row_is_left() -> None:
    body = f"flat = Flatten<axis = 1>(images) a = Gemm(flat, w, b) {NORM} logits = Relu(n)"

    _, outcome = folded(model(body, shape="4, 3, 6, 6", out="4, 4", w=draw(5, 108, 4), b=draw(6, 4, 1), **PARAMETERS))

    assert {NAME: "the bias before it is not one number for each channel"} == reasons(outcome)


def test_a_norm_that_is_the_output_leaves_its_name() -> None:
    body = "flat = Flatten<axis = 1>(images) a = Gemm(flat, w) logits = BatchNormalization(a, gamma, beta, mean, var)"

    after, _ = compacted(model(body, w=draw(5, 108, 4), **PARAMETERS), "fold_batchnorm")

    assert ["Flatten", "Gemm", "Identity"] == [node.op_type for node in after.graph.node]
    assert {"w": (108, 4), "a_bias": (4,)} == shapes(after)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"a = Conv(images, w) {NORM} x = Add(n, a) {HEAD.replace('(n)', '(x)')}", "'a' is read elsewhere, too"),
        (f"c = Conv(images, w) a = Relu(c) {NORM} {HEAD}", "there is no Conv, ConvTranspose or Gemm before it"),
        (f"g = Neg(gamma) a = Conv(images, w) {NORM.replace('gamma', 'g')} {HEAD}", "'g' is not constant"),
        (f"v = Neg(w) a = Conv(images, v) {NORM} {HEAD}", "'v' is not constant"),
        (
            f"a = Conv(images, w) n, m, v = BatchNormalization<training_mode = 1>(a, gamma, beta, mean, var) {HEAD}",
            "it is in training form",
        ),
        (f"a = Conv(images, w) {NORM.replace('var', 'bad')} {HEAD}", "its parameters give numbers that are not finite"),
    ],
)  # fmt: skip
def test_what_is_left_and_why(body: str, why: str) -> None:
    proto = model(body, w=draw(5, 4, 3, 3, 3), bad=-VAR, **PARAMETERS)
    before = proto.SerializeToString(deterministic=True)

    after, outcome = folded(proto)

    assert before == after
    assert {NAME: why} == reasons(outcome)


def folded(proto: onnx.ModelProto) -> tuple[bytes, Outcome]:
    outcome = fold_batchnorm.apply_(proto)
    return proto.SerializeToString(deterministic=True), outcome


def test_training_before_opset_14_is_told_by_the_outputs() -> None:
    body = f"a = Conv(images, w) n, m, v = BatchNormalization(a, gamma, beta, mean, var) {HEAD}"

    _, outcome = folded(model(body, opset=11, w=draw(5, 4, 3, 3, 3), **PARAMETERS))

    assert {NAME: "it is in training form"} == reasons(outcome)
    _, outcome = folded(model(body.replace("n, m, v", "n"), opset=11, w=draw(5, 4, 3, 3, 3), **PARAMETERS))
    assert {} == reasons(outcome)


def test_a_weight_that_others_read_stays_for_them() -> None:
    body = (
        f"a = Conv(images, w) {NORM} other = Conv(images, w) x = Add(n, other) p = GlobalAveragePool(x) "
        "logits = Flatten<axis = 1>(p)"
    )
    weight = draw(5, 4, 3, 3, 3)

    after, _ = compacted(model(body, w=weight, **PARAMETERS), "fold_batchnorm")

    np.testing.assert_array_equal(values(after)["w"], weight)
    assert {"w", "w_1", "a_bias"} == shapes(after).keys()
