"""Every pattern in which channels go, or stay with a reason; outputs are compared by onnxruntime in `compacted`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ntksap_export.graph import Graph, optimize

from .channel_cases import compacted, draw, emptied, images, model, reasons, run, shapes

HEAD = "pooled = GlobalAveragePool(last) flat = Flatten<axis = 1>(pooled) logits = Gemm<transB = 1>(flat, fw, fb)"
FC = {"fw": draw(90, 4, 5), "fb": draw(91, 4)}
W1, W2 = draw(1, 6, 3, 3, 3), draw(2, 5, 6, 3, 3)
B1, B2 = draw(3, 6), draw(4, 5)
CHAIN = f"a = Conv<pads = [1, 1, 1, 1]>(images, w1, b1) r = Relu(a) last = Conv<pads = PADS>(r, w2, b2) {HEAD}"
PADDED, INNER = CHAIN.replace("PADS", "[1, 1, 1, 1]"), CHAIN.replace("PADS", "[0, 0, 0, 0]")
MEETS = "its constant is not 0 and meets the zero padding of Conv 'last'"


def bias(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_constant_of_zero_goes_bit_by_bit_through_padding() -> None:
    w1, b1 = emptied(W1, 1, 4), bias(1, -1, 1, 1, 0, 1)

    proto, outcome = compacted(model(PADDED, w1=w1, b1=b1, w2=W2, b2=B2, **FC), atol=0)

    assert {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (5, 4, 3, 3), "b2": (5,)}.items() <= shapes(proto).items()
    first = {"layer": "w1", "channels": [6, 4], "inputs": [3, 3], "parameters": [168, 112], "macs": [5832, 3888]}
    second = {"layer": "w2", "channels": [5, 5], "inputs": [6, 4], "parameters": [275, 185], "macs": [9720, 6480]}
    assert (first, second) == outcome.changed
    assert "2 of 15 channels removed, 146 of 467 parameters, 5184 of 15572 multiply-adds per image" == outcome.said
    assert {"channels": [15, 13], "parameters": [467, 321], "macs": [15572, 10388]} == outcome.totals
    assert () == outcome.left


def test_a_constant_above_zero_moves_into_the_bias_where_there_is_no_padding() -> None:
    proto = model(INNER, w1=emptied(W1, 2), b1=bias(0, 0, 0.75, 0, 0, 0), w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto)

    expected = B2.astype(np.float64) + 0.75 * W2[:, 2].astype(np.float64).sum(axis=(1, 2))
    (found,) = [numpy_helper.to_array(item) for item in after.graph.initializer if item.name == "b2"]
    assert expected.astype(np.float32).tolist() == found.tolist()
    assert (5, 5, 3, 3) == shapes(after)["w2"]
    assert () == outcome.left


def test_a_constant_above_zero_stays_at_zero_padding_and_says_why() -> None:
    proto = model(PADDED, w1=emptied(W1, 2, 3), b1=bias(0, 0, 0.75, -1, 0, 0), w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto, atol=0)

    assert (5, 3, 3, 3) == shapes(after)["w1"]
    assert {"w1: 1 constant channels": MEETS} == reasons(outcome)


@pytest.mark.parametrize(
    ("pads", "tap", "goes"),
    [
        ("[1, 1, 1, 1]", (1, 1), True),
        ("[1, 1, 1, 1]", (0, 1), False),
        ("[1, 1, 1, 1]", (1, 2), False),
        ("[0, 1, 0, 0]", (2, 1), True),
        ("[0, 1, 0, 0]", (1, 0), False),
        ("[0, 0, 0, 1]", (1, 0), True),
        ("[0, 0, 0, 1]", (1, 2), False),
        ("[0, 0, 2, 0]", (0, 0), True),
        ("[0, 0, 2, 0]", (1, 0), False),
    ],
)
def test_it_goes_at_padding_if_no_tap_with_weight_falls_on_it(pads: str, tap: tuple[int, int], goes: bool) -> None:
    w2 = W2.copy()
    w2[:, 2] = 0
    w2[:, 2, tap[0], tap[1]] = 1
    proto = model(CHAIN.replace("PADS", pads), w1=emptied(W1, 2), b1=bias(0, 0, 0.75, 0, 0, 0), w2=w2, b2=B2, **FC)

    after, outcome = compacted(proto)

    assert goes == (shapes(after)["w1"][0] == 5)
    assert goes == (not outcome.left)


@pytest.mark.parametrize(("size", "goes"), [(6, False), (7, True)])
def test_a_stride_may_never_reach_the_padding_at_the_end(size: int, goes: bool) -> None:
    body = CHAIN.replace("<pads = PADS>", "<pads = [0, 0, 1, 1], strides = [2, 2]>")
    proto = model(
        body, shape=f"batch, 3, {size}, {size}", w1=emptied(W1, 2), b1=bias(0, 0, 1, 0, 0, 0), w2=W2, b2=B2, **FC
    )

    after, _ = compacted(proto)

    assert (5 if goes else 6) == shapes(after)["w1"][0]


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(padding: str) -> None:
    body = CHAIN.replace("<pads = PADS>", f'<auto_pad = "{padding}">')
    proto = model(body, w1=emptied(W1, 2), b1=bias(0, 0, 1, 0, 0, 0), w2=W2, b2=B2, **FC)

    after, _ = compacted(proto)

    assert (5 if padding == "VALID" else 6) == shapes(after)["w1"][0]


def test_a_channel_that_nothing_reads_goes_and_takes_those_before_it() -> None:
    body = (
        "a = Conv(images, w0) z = Relu(a) b = Conv(z, w1, b1) r = Relu(b) "
        f"last = Conv<pads = [1, 1, 1, 1]>(r, w2, b2) {HEAD}"
    )
    w1, w2 = W1.repeat(2, axis=1)[:, :4], W2.copy()
    w2[:, [0, 3]] = 0
    w1[[1, 2, 4, 5], 2] = 0
    proto = model(body, w0=draw(7, 4, 3, 1, 1), w1=w1, b1=B1, w2=w2, b2=B2, **FC)

    after, outcome = compacted(proto, atol=1e-6)

    assert {"w0": (3, 3, 1, 1), "w1": (4, 3, 3, 3), "w2": (5, 4, 3, 3)}.items() <= shapes(after).items()
    assert () == outcome.left


def test_constants_run_on_to_a_fixed_point() -> None:
    """The second convolution's channel is dead because it reads dead ones alone."""
    body = (
        "a = Conv(images, w0, b0) z = Relu(a) b = Conv<pads = [1, 1, 1, 1]>(z, w1, b1) r = Relu(b) "
        f"last = Conv(r, w2, b2) {HEAD}"
    )
    w1 = np.zeros((6, 4, 3, 3), np.float32)
    w1[:, 1:] = W1
    w1[3, 1:] = 0
    w1[3, 0] = 1
    proto = model(body, w0=emptied(draw(7, 4, 3, 1, 1), 0), b0=bias(-1, 1, 1, 1), w1=w1, b1=B1, w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto)

    assert {"w0": (3, 3, 1, 1), "w1": (5, 3, 3, 3), "w2": (5, 5, 3, 3)}.items() <= shapes(after).items()
    assert () == outcome.left


RESIDUAL = (
    "stem = Conv(images, w0, b0) s = Relu(stem) a = Conv<pads = [1, 1, 1, 1]>(s, w1, b1) r = Relu(a) "
    f"b = Conv<pads = [1, 1, 1, 1]>(r, w2, b2) sum = Add(b, s) last = Relu(sum) {HEAD}"
)


def test_in_a_sum_a_channel_goes_only_if_it_is_constant_in_every_branch() -> None:
    w0, b0 = emptied(draw(7, 5, 3, 1, 1), 0, 1), bias(-1, -1, 1, 1, 1)
    w1 = draw(8, 6, 5, 3, 3)
    w2 = emptied(W2, 0, 2)
    proto = model(RESIDUAL, w0=w0, b0=b0, w1=w1, b1=B1, w2=w2, b2=bias(-1, 1, 0.5, 1, 1), **FC)

    after, outcome = compacted(proto, atol=1e-6)

    assert {"w0": (4, 3, 1, 1), "w1": (6, 4, 3, 3), "w2": (4, 6, 3, 3), "fw": (4, 4)}.items() <= shapes(after).items()
    why = "the channel is in use in another branch"
    assert {"w0: 1 constant channels": why, "w2: 1 constant channels": why} == reasons(outcome)


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_a_branch_that_is_constant_throughout_is_gone(constant: float) -> None:
    w0, b2 = draw(7, 5, 3, 1, 1), np.full(5, constant, np.float32)
    proto = model(RESIDUAL, w0=w0, b0=B2, w1=draw(8, 6, 5, 3, 3), b1=B1, w2=np.zeros_like(W2), b2=b2, **FC)

    after, outcome = compacted(proto, atol=0)

    kinds = [node.op_type for node in after.graph.node]
    assert ["Conv", "Relu", *(["Add"] if constant else []), "Relu", "GlobalAveragePool", "Flatten", "Gemm"] == kinds
    assert not {"w1", "b1", "w2", "b2"} & shapes(after).keys()
    gone = {row["layer"]: row["channels"] for row in outcome.changed}
    assert {"w1": [6, 0], "w2": [5, 0]} == gone


def test_concatenation_keeps_the_order() -> None:
    body = (
        "a = Conv(images, wa, ba) b = Conv(images, wb, bb) c = Concat<axis = 1>(a, b, a) r = Relu(c) "
        f"last = Conv(r, w2, b2) {HEAD}"
    )
    wa, wb = emptied(draw(5, 3, 3, 1, 1), 1), emptied(draw(6, 2, 3, 1, 1), 0)
    proto = model(body, wa=wa, ba=bias(1, 2, 3), wb=wb, bb=bias(-1, 1), w2=draw(2, 5, 8, 3, 3), b2=B2, **FC)

    after, outcome = compacted(proto)

    assert {"wa": (2, 3, 1, 1), "wb": (1, 3, 1, 1), "w2": (5, 5, 3, 3)}.items() <= shapes(after).items()
    assert () == outcome.left


def test_depthwise_channels_go_with_what_they_read() -> None:
    body = (
        "a = Conv(images, w0, b0) z = Relu(a) d = Conv<group = 4, pads = [1, 1, 1, 1]>(z, wd, bd) r = Relu(d) "
        f"last = Conv(r, w2, b2) {HEAD}"
    )
    w0, wd = emptied(draw(7, 4, 3, 1, 1), 0, 1), emptied(draw(8, 8, 1, 3, 3), 4, 5, 6)
    b0, bd = bias(-1, 1, 1, 1), draw(9, 8)

    after, outcome = compacted(model(body, w0=w0, b0=b0, wd=wd, bd=bd, w2=draw(2, 5, 8, 3, 3), b2=B2, **FC))

    # channel 0 is silent; 1 is not, and meets padding; both outputs of 2 are dead; of 3 only one is
    assert {"w0": (2, 3, 1, 1), "wd": (4, 1, 3, 3), "bd": (4,), "w2": (5, 4, 3, 3)}.items() <= shapes(after).items()
    (depthwise,) = [node for node in after.graph.node if node.output[0] == "d"]
    assert 2 == next(item.i for item in depthwise.attribute if item.name == "group")
    left = reasons(outcome)
    assert "its constant meets the zero padding of Conv 'd'" == left["w0: 1 constant channels"]
    assert "the channel is in use in another branch" == left["wd: 1 constant channels"]


@pytest.mark.parametrize(
    ("rows", "outputs", "inputs"), [((0, 1), 2, 2), ((2, 3), 2, 2), ((0,), 4, 2), ((1, 2), 4, 2), ((0, 1, 2, 3), 1, 1)]
)
def test_of_a_grouped_convolution_whole_groups_go(rows: tuple[int, ...], outputs: int, inputs: int) -> None:
    body = f"a = Conv(images, w0, b0) g = Conv<group = 2>(a, wg, bg) last = Conv(g, w2, b2) {HEAD}"
    wg = emptied(draw(8, 4, 2, 3, 3), *rows)
    proto = model(
        body, w0=draw(7, 4, 3, 1, 1), b0=draw(6, 4), wg=wg, bg=draw(9, 4), w2=draw(2, 5, 4, 3, 3), b2=B2, **FC
    )

    after, _ = compacted(proto)

    assert ((outputs, inputs, 3, 3), (outputs, 3, 1, 1)) == (shapes(after)["wg"], shapes(after)["w0"])


@pytest.mark.parametrize(
    ("pool", "constant", "goes"),
    [
        ("MaxPool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(r)", 0.5, True),
        ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(r)", 0.5, False),
        ("AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(r)", 0.5, True),
        ("AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(r)", 0.5, False),
        ("AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(r)", 0.0, True),
        ("AveragePool<kernel_shape = [2, 2], count_include_pad = 1>(r)", 0.5, True),
        ('AveragePool<kernel_shape = [2, 2], auto_pad = "SAME_UPPER", count_include_pad = 1>(r)', 0.5, False),
        ("GlobalAveragePool(r)", 0.5, True),
        ("GlobalMaxPool(r)", 0.5, True),
    ],
)
def test_pooling_keeps_a_constant_unless_padding_is_counted(pool: str, constant: float, goes: bool) -> None:
    body = f"a = Conv(images, w1, b1) r = Relu(a) p = {pool} last = Conv(p, w2, b2) {HEAD}"
    proto = model(body, w1=emptied(W1, 2), b1=bias(1, 1, constant, 1, 1, 1), w2=W2[..., :1, :1].copy(), b2=B2, **FC)

    after, outcome = compacted(proto)

    assert (5 if goes else 6) == shapes(after)["w1"][0]
    assert goes == (not outcome.left)


@pytest.mark.parametrize("constant", [0.0, 0.5])
@pytest.mark.parametrize(
    ("mode", "scales", "goes"),
    [
        ('mode = "nearest"', (1, 1, 2, 2), True),
        ('mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"', (1, 1, 3, 2), True),
        ('mode = "linear"', (1, 1, 1.5, 2), True),
        ('mode = "linear", coordinate_transformation_mode = "align_corners"', (1, 1, 2, 2), True),
        ('mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"', (1, 1, 0.5, 0.7), True),
        ('mode = "linear", antialias = 1', (1, 1, 0.5, 0.5), True),
        ('mode = "linear", axes = [3, -2]', (1.5, 2), True),
        ('mode = "cubic"', (1, 1, 2, 2), False),
    ],
)
def test_resizing_keeps_a_constant(mode: str, scales: tuple[float, ...], goes: bool, constant: float) -> None:
    body = f"a = Conv(images, w1, b1) r = Relu(a) p = Resize<{mode}>(r, , scales) last = Conv(p, w2, b2) {HEAD}"
    constants = {"b1": bias(1, 1, constant, 1, 1, 1), "w2": W2[..., :1, :1].copy(), "scales": bias(*scales)}
    proto = model(body, w1=emptied(W1, 2), b2=B2, **constants, **FC)

    after, outcome = compacted(proto, atol=1e-5 if constant else 1e-6)

    goes = goes or constant == 0
    assert (5 if goes else 6) == shapes(after)["w1"][0]
    assert ({} if goes else {"w1: 1 constant channels": "Resize 'p' is cubic"}) == reasons(outcome)


def test_resizing_to_sizes_of_places_alone_is_followed() -> None:
    body = f"a = Conv(images, w1, b1) r = Relu(a) p = Resize<axes = [2, 3]>(r, , , to) last = Conv(p, w2, b2) {HEAD}"
    to = np.array([7, 9], np.int64)

    after, outcome = compacted(model(body, w1=emptied(W1, 2), b1=B1, w2=W2[..., :1, :1].copy(), b2=B2, to=to, **FC))

    assert (5, ()) == (shapes(after)["w1"][0], outcome.left)


CUT = 'Resize<coordinate_transformation_mode = "tf_crop_and_resize">'
NOT_FOLLOWED = {
    "p = Resize(r, , , to)": "Resize 'p' reads it: its sizes name the batch and the channels; with scales it would be",
    "u = Abs(scales) p = Resize(r, , u)": "Resize 'p' reads it: its scales are not constant",
    "p = Resize(r, , wide)": "Resize 'p' reads it: it does not resize places alone",
    f"p = {CUT}(r, roi, scales)": "Resize 'p' reads it: it puts another number where the image ends",
    "h, g = Split<axis = 1, num_outputs = 2>(r) p = Add(h, g)": "Split 'h' reads it: this operator is not followed",
    "t = Transpose<perm = [1, 0, 2, 3]>(r) p = Transpose<perm = [1, 0, 2, 3]>(t)": "Transpose 't' reads it: this",
    "s = Shape(r) p = Reshape(r, s)": "Shape 's' reads it: this operator is not followed",
    "s = Shape(images) h = Slice(s, two, end) f = Concat<axis = 0>(head, h) p = Reshape(r, f)": (
        "Reshape 'p' reads it: its shape is computed"
    ),
}


@pytest.mark.parametrize(("body", "reason"), NOT_FOLLOWED.items(), ids=NOT_FOLLOWED.values())
def test_what_is_not_followed_says_so_of_the_dead_channel_before_it(body: str, reason: str) -> None:
    settings = {
        "to": np.array([3, 6, 7, 9]), "two": np.array([2]), "end": np.array([4]), "head": np.array([-1, 6]),
        "wide": bias(1, 2, 1, 1), "scales": bias(1, 1, 2, 2), "roi": bias(0, 0, 0, 0, 1, 1, 2, 2),
    }  # fmt: skip
    inputs = 12 if "wide" in body else 3 if "Split" in body else 6
    whole = f"a = Conv<pads = [1, 1, 1, 1]>(images, w1, b1) r = Relu(a) {body} last = Conv(p, w2, b2) {HEAD}"
    w1, b1, w2 = emptied(W1, 2), bias(1, 1, 0.5, 1, 1, 1), draw(2, 5, inputs, 1, 1)
    proto = model(whole, w1=w1, b1=b1, w2=w2, b2=B2, **{key: settings[key] for key in settings if key in body}, **FC)

    after, outcome = compacted(proto, atol=0)

    assert 6 == shapes(after)["w1"][0]
    (left,) = outcome.left
    assert "w1: 1 constant channels" == left.what
    assert reason in left.why


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(a)", "LeakyRelu<alpha = 0.3>(a)", "Clip(a, low, high)", "HardSwish(a)", "HardSigmoid(a)", "Sigmoid(a)",
        "Tanh(a)", "Elu(a)", "Selu(a)", "Softplus(a)", "Gelu(a)", "Mish(a)", "Erf(a)", "Identity(a)", "Dropout(a)",
        "PRelu(a, slope)", "Mul(a, slope)", "Add(slope, a)", "Sub(slope, a)", "Div(a, low)", "Max(a, low, high)",
        "Abs(a)", "BatchNormalization(a, slope1, slope1, slope1, positive)", "Sum(a, a, a)", "Mul(a, a)",
    ],
)  # fmt: skip
def test_a_constant_goes_through_what_acts_number_by_number(activation: str) -> None:
    body = f"a = Conv(images, w1, b1) last = {activation} {HEAD}"
    slope = draw(11, 6, 1, 1)
    others = {"slope1": slope.ravel(), "positive": np.abs(slope.ravel()), "fw": draw(90, 4, 6), "fb": draw(91, 4)}
    low, high = np.float32(0.25), np.float32(2)
    proto = model(body, w1=emptied(W1, 0, 3), b1=B1, low=low, high=high, slope=slope, **others)

    after, outcome = compacted(proto)

    assert {"w1": (4, 3, 3, 3), "fw": (4, 4)}.items() <= shapes(after).items()
    assert () == outcome.left


def test_a_factor_of_zero_makes_a_channel_constant() -> None:
    body = (
        "a = Conv(images, w1, b1) n = BatchNormalization(a, gamma, beta, beta, one) m = Mul(n, factor) "
        f"last = Relu(m) {HEAD}"
    )
    gamma, factor = bias(1, 0, 1, 1, 1, 1), bias(1, 1, 0, 1, 1, 1).reshape(6, 1, 1)
    proto = model(
        body,
        w1=W1,
        b1=B1,
        gamma=gamma,
        beta=B1,
        one=np.ones(6, np.float32),
        factor=factor,
        fw=draw(90, 4, 6),
        fb=draw(91, 4),
    )

    after, _ = compacted(proto)

    assert {"w1": (4, 3, 3, 3), "gamma": (4,), "factor": (4, 1, 1), "fw": (4, 4)}.items() <= shapes(after).items()


def test_squeeze_and_excitation_goes_with_its_channels() -> None:
    body = (
        "a = Conv(images, w1, b1) r = Relu(a) axes = Constant<value_ints = [2, 3]>() m = ReduceMean(r, axes) "
        f"f = Conv(m, ws, bs) h = Relu(f) e = Conv(h, we, be) q = HardSigmoid(e) last = Mul(q, r) {HEAD}"
    )
    we = draw(6, 6, 2, 1, 1)
    proto = model(
        body, w1=emptied(W1, 2), b1=bias(1, 1, -1, 1, 1, 1), ws=draw(5, 2, 6, 1, 1), bs=draw(3, 2), we=we, be=B1,
        fw=draw(90, 4, 6), fb=draw(91, 4),
    )  # fmt: skip

    after, _ = compacted(proto, atol=1e-6)

    assert {"w1": (5, 3, 3, 3), "ws": (2, 5, 1, 1), "we": (5, 2, 1, 1), "fw": (4, 5)}.items() <= shapes(after).items()


@pytest.mark.parametrize(
    "flatten",
    [
        "flat = Flatten<axis = 1>(r)",
        "to = Constant<value_ints = [0, -1]>() flat = Reshape(r, to)",
        "to = Constant<value_ints = [-1, 96]>() flat = Reshape(r, to)",
    ],
)
@pytest.mark.parametrize("product", ["logits = Gemm(flat, w, b)", "logits = MatMul(flat, w)"])
def test_flattening_makes_neighbours_of_a_channel(flatten: str, product: str) -> None:
    body = f"a = Conv(images, w1, b1) r = Relu(a) {flatten} {product}"
    constants = {"w1": emptied(W1, 2, 5), "b1": bias(1, 1, 0.5, 1, 1, -1), "w": draw(5, 96, 4)}
    proto = model(body, **constants, **({"b": draw(6, 4)} if "b)" in product else {}))

    after, outcome = compacted(proto)

    assert {"w1": (4, 3, 3, 3), "w": (64, 4)}.items() <= shapes(after).items()
    assert () == outcome.left
    assert "Gemm" == after.graph.node[-1].op_type


def test_dead_outputs_of_the_classifier_stay() -> None:
    proto = model(
        "flat = Flatten<axis = 1>(images) logits = Gemm<transB = 1>(flat, w, b)",
        w=emptied(draw(5, 4, 108), 1),
        b=draw(6, 4),
    )

    after, outcome = compacted(proto, atol=0)

    assert (4, 108) == shapes(after)["w"]
    assert {"w: 1 constant channels": "'logits' is an output of the graph"} == reasons(outcome)


def test_a_network_without_any_weight_keeps_one_channel_of_each_value() -> None:
    proto = model(PADDED, w1=0 * W1, b1=-np.abs(B1), w2=0 * W2, b2=B2, **FC)

    after, outcome = compacted(proto)

    assert {"w1": (1, 3, 3, 3), "w2": (1, 1, 3, 3), "fw": (4, 1)}.items() <= shapes(after).items()
    last = "it is the last channel of its value, and one must stay"
    assert last == reasons(outcome)["w1: 1 constant channels"] == reasons(outcome)["w2: 1 constant channels"]


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        ("other = own.Magic(r)", "Magic 'other' reads it: this operator is not followed"),
        ("other = Softmax<axis = 1>(r)", "Softmax 'other' reads it: this operator is not followed"),
        ("other = Transpose<perm = [0, 2, 3, 1]>(r)", "Transpose 'other' reads it: this operator is not followed"),
    ],
)
def test_what_an_unknown_operator_reads_stays(reader: str, why: str) -> None:
    proto = model(
        f"a = Conv(images, w1, b1) r = Relu(a) {reader} last = Conv(r, w2, b2) {HEAD}",
        w1=emptied(W1, 2), b1=bias(1, 1, -1, 1, 1, 1), w2=W2, b2=B2, **FC,
    )  # fmt: skip
    before = proto.SerializeToString(deterministic=True)

    graph, (log,) = optimize(Graph(proto, ()), ("drop_dead_channels",))

    assert before == graph.to_bytes()
    assert {"w1: 1 constant channels": why} == reasons(log.outcome)


def test_a_dead_channel_stays_where_a_weight_on_it_is_not_finite() -> None:
    broken = W2.copy()
    broken[:, 2] = np.inf
    proto = model(INNER, w1=emptied(W1, 2, 3), b1=bias(1, 1, 0, 0, 1, 1), w2=broken, b2=B2, **FC)

    after, outcome = compacted(proto)

    assert (5, 3, 3, 3) == shapes(after)["w1"]
    assert {"w1: 1 constant channels": "a weight of Conv 'last' on it is not finite"} == reasons(outcome)


def test_a_convolution_whose_weight_is_computed_says_so() -> None:
    proto = model(
        f"v = Neg(w1) a = Conv(images, v, b1) r = Relu(a) last = Conv(r, w2, b2) {HEAD}",
        w1=W1,
        b1=B1,
        w2=W2,
        b2=B2,
        **FC,
    )

    _, outcome = compacted(proto, atol=0)

    assert {"Conv 'a'": "its weight 'v' is not constant"} == reasons(outcome)


def test_what_a_subgraph_reads_stays() -> None:
    proto = model(
        f"a = Conv(images, w1, b1) r = Relu(a) yes = Constant<value = bool {{1}}>() "
        "x = If(yes) <then_branch = t () => (float[n, c, h, w] u) { u = Neg(r) }, "
        "else_branch = e () => (float[n, c, h, w] v) { v = Abs(r) }> "
        f"last = Conv(r, w2, b2) {HEAD}",
        w1=emptied(W1, 2), b1=bias(1, 1, -1, 1, 1, 1), w2=W2, b2=B2, **FC,
    )  # fmt: skip

    _, outcome = compacted(proto, atol=0)

    assert {"w1: 1 constant channels": "'r' is read by a subgraph"} == reasons(outcome)


def test_what_the_graph_gives_out_stays() -> None:
    proto = model(INNER, w1=emptied(W1, 2), b1=bias(1, 1, -1, 1, 1, 1), w2=W2, b2=B2, **FC)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ["batch", 6, 6, 6]))

    _, outcome = compacted(proto, atol=0)

    assert {"w1: 1 constant channels": "'r' is an output of the graph"} == reasons(outcome)


def test_a_weight_of_two_layers_is_cut_for_each_alone() -> None:
    body = (
        "a = Conv(images, w1, b1) r = Relu(a) x = Conv(r, w2, b2) s = Conv(images, w1, bt) t = Conv(s, w3) "
        f"last = Add(x, t) {HEAD}"
    )
    b1, w3 = bias(1, 1, -1, 1, 1, 1), draw(14, 5, 6, 3, 3)
    proto = model(body, w1=emptied(W1, 2), b1=b1, bt=B1, w2=W2, b2=B2, w3=w3, **FC)

    after, _ = compacted(proto)

    assert {"w1": (5, 3, 3, 3), "w1_1": (5, 3, 3, 3)}.items() <= shapes(after).items()


@pytest.mark.parametrize(("ir", "goes"), [(3, True), (8, False)])
def test_initializers_that_are_inputs_too_are_constant_only_in_old_files(ir: int, goes: bool) -> None:
    proto = model(INNER, opset=11, ir=ir, w1=emptied(W1, 2), b1=bias(1, 1, 0.5, 1, 1, 1), w2=W2, b2=B2, **FC)
    for item in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))

    after, outcome = compacted(proto)

    assert (5 if goes else 6) == shapes(after)["w1"][0]
    assert goes == ("its weight 'w1' is also an input, which a caller may set" not in reasons(outcome).values())
    listed = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in after.graph.input}
    assert all(listed[name] == list(shape) for name, shape in shapes(after).items())


def test_transposed_convolutions_are_cut_on_both_sides() -> None:
    body = (
        "a = Conv(images, w1, b1) r = Relu(a) u = ConvTranspose<strides = [2, 2]>(r, wt, bt) "
        f"last = Conv(u, w2, b2) {HEAD}"
    )
    wt = draw(5, 6, 6, 2, 2)
    wt[:, 4] = 0
    proto = model(body, w1=emptied(W1, 2, 3), b1=bias(1, 1, -1, 0.5, 1, 1), wt=wt, bt=B1, w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto)

    assert {"w1": (5, 3, 3, 3), "wt": (5, 5, 2, 2), "bt": (5,), "w2": (5, 5, 3, 3)}.items() <= shapes(after).items()
    assert {
        "w1: 1 constant channels": "its constant is not 0 and meets the zero padding of ConvTranspose 'u'"
    } == reasons(outcome)


def test_an_open_size_of_images_is_no_hindrance() -> None:
    w2 = W2.copy()
    w2[:, 2] = 0
    w2[:, 2, 1, 1] = 1
    proto = model(
        PADDED, shape="batch, 3, height, width", w1=emptied(W1, 2, 4), b1=bias(1, 1, 0.5, 1, 0.5, 1), w2=w2, b2=B2, **FC
    )

    after, outcome = compacted(proto)

    assert (5, 3, 3, 3) == shapes(after)["w1"]
    assert [[None, None], [None, None]] == [row["macs"] for row in outcome.changed]
    assert outcome.said.endswith("parameters; multiply-adds are not known, for the size of images is open")


def test_stored_shapes_of_values_follow() -> None:
    proto = onnx.shape_inference.infer_shapes(model(PADDED, w1=emptied(W1, 1), b1=0 * B1, w2=W2, b2=B2, **FC))
    assert any(value.name == "r" for value in proto.graph.value_info)

    after, _ = compacted(proto, atol=0)

    inferred = onnx.shape_inference.infer_shapes(after, strict_mode=True)
    sides = {v.name: [axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    assert 5 == sides["r"][1]


def test_nothing_to_do_changes_no_byte() -> None:
    proto = model(PADDED, w1=W1, b1=B1, w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto, atol=0)

    assert proto.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    assert ((), ()) == (outcome.changed, outcome.left)


def test_padding_nodes_keep_what_they_put_around() -> None:
    body = f"a = Conv(images, w1, b1) r = Relu(a) p = Pad(r, pads) last = Conv(p, w2, b2) {HEAD}"
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    proto = model(body, w1=emptied(W1, 2, 3), b1=bias(1, 1, 0.5, -1, 1, 1), pads=pads, w2=W2, b2=B2, **FC)

    after, outcome = compacted(proto, atol=0)

    assert (5, 3, 3, 3) == shapes(after)["w1"]
    assert {"w1: 1 constant channels": "Pad 'p' puts other numbers around it"} == reasons(outcome)


def test_answers_of_one_image_do_not_depend_on_its_batch() -> None:
    proto = model(INNER, w1=emptied(W1, 2), b1=bias(1, 1, 0.5, 1, 1, 1), w2=W2, b2=B2, **FC)
    after, _ = compacted(proto)
    given = images(proto, 2)

    np.testing.assert_allclose(run(after, given)[1:], run(after, given[1:]), rtol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 15, 17, 18, 19, 20, 21, 22, 23])
def test_graphs_of_every_opset(opset: int) -> None:
    squeeze = "Squeeze<axes = [2, 3]>(m)" if opset < 13 else "Squeeze(m, places)"
    mean = "ReduceMean<axes = [2, 3], keepdims = 1>(d)" if opset < 18 else "ReduceMean<keepdims = 1>(d, places)"
    body = (
        "a = Conv(images, w1, b1) n = BatchNormalization(a, g, b1, b1, one) c = Clip(n, low, high) d = Dropout(c) "
        f"m = {mean} flat = {squeeze} logits = Gemm<transB = 1>(flat, fw, fb)"
    )
    proto = model(
        body, opset=opset, ir=7 if opset < 15 else 10, w1=emptied(W1, 2), b1=B1, g=draw(4, 6),
        one=np.ones(6, np.float32), low=np.float32(0), high=np.float32(6), places=np.array([2, 3]),
        fw=draw(90, 4, 6), fb=draw(91, 4),
    )  # fmt: skip
    for item in list(proto.graph.initializer):  # those that this opset does not read
        if item.name == "places" and opset < 13:
            proto.graph.initializer.remove(item)

    after, outcome = compacted(proto)

    assert {"w1": (5, 3, 3, 3), "g": (5,), "fw": (4, 5)}.items() <= shapes(after).items()
    assert () == outcome.left


def test_weights_of_constant_nodes_become_initializers() -> None:
    proto = model(PADDED, w1=emptied(W1, 1), b1=0 * B1, w2=W2, b2=B2, **FC)
    for item in list(proto.graph.initializer):
        proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], [item.name], value=item))
        proto.graph.initializer.remove(item)

    after, _ = compacted(proto, atol=0)

    constants = {node.output[0] for node in after.graph.node if node.op_type == "Constant"}
    assert {"b2", "fw", "fb"} == constants
    assert {"w1_1": (5, 3, 3, 3), "b1_1": (5,), "w2_1": (5, 5, 3, 3)} == shapes(after)


def test_half_precision() -> None:
    w1, b1 = emptied(W1, 2), bias(1, 1, 0.5, 1, 1, 1)
    constants = {"w1": w1, "b1": b1, "w2": W2, "b2": B2, **FC}
    body = INNER.replace("(images", "(x").replace("logits =", "wide =")
    body = f"x = Cast<to = 10>(images) {body} logits = Cast<to = 1>(wide)"

    halves = {name: value.astype(np.float16) for name, value in constants.items()}
    after, outcome = compacted(model(body, **halves), atol=2e-2)

    assert (5, 3, 3, 3) == shapes(after)["w1"]
    assert {np.float16} == {numpy_helper.to_array(item).dtype.type for item in after.graph.initializer}
    assert () == outcome.left


def test_integer_weights_are_left_alone() -> None:
    body = (
        "q = Cast<to = 2>(images) a = ConvInteger(q, w) f = Cast<to = 1>(a) p = GlobalAveragePool(f) "
        "logits = Flatten(p)"
    )
    proto = model(body, w=np.zeros((4, 3, 3, 3), np.uint8))

    after, outcome = compacted(proto, atol=0)

    assert proto.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)
    assert ((), ()) == (outcome.changed, outcome.left)


def test_what_stays_for_its_place_alone_keeps_nothing_alive() -> None:
    """The classifier reads nothing: of the network before it one channel each stays, and no more."""
    w0, w1, nothing = draw(7, 5, 3, 1, 1), draw(8, 6, 5, 3, 3), {"fw": np.zeros_like(FC["fw"]), "fb": FC["fb"]}
    proto = model(RESIDUAL, w0=w0, b0=B2, w1=w1, b1=B1, w2=W2, b2=B2, **nothing)

    after, _ = compacted(proto, atol=0)

    assert {"w0": (1, 3, 1, 1), "w1": (1, 1, 3, 3), "w2": (1, 1, 3, 3), "fw": (4, 1)}.items() <= shapes(after).items()


@pytest.mark.parametrize(
    ("dead", "left"), [(1, 16), (3, 16), (4, 12), (5, 12), (7, 12), (8, 8), (9, 7), (12, 4), (14, 2), (15, 1)]
)
def test_many_channels_stay_a_multiple_of_four(dead: int, left: int) -> None:
    w1, b1 = emptied(draw(1, 16, 3, 3, 3), *range(1, dead + 1)), draw(3, 16)
    w2 = draw(2, 5, 16, 3, 3)

    after, outcome = compacted(model(INNER, w1=w1, b1=b1, w2=w2, b2=B2, **FC), atol=2e-5)

    assert ((left, 3, 3, 3), (5, left, 3, 3)) == (shapes(after)["w1"], shapes(after)["w2"])
    place = left - (16 - dead)
    faster = "it makes the channels of its value a multiple of 4, which is faster"
    expected = {f"w1: {place} constant channels": faster} if place else {}
    assert expected == reasons(outcome)
