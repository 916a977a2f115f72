from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph
from ntksap_export.runtime.parity import Limits, Parity, Probe, check_parity, make_probes
from ntksap_export.runtime.session import Images, Logits, Outputs
from ntksap_export.runtime.verify import verify

from ..graph.channel_cases import model

IMAGES = np.zeros((4, 1, 1, 1), np.float32)
# The largest absolute logit is 10, a negative one; first answers 0, 2, 1, 2.
LOGITS = np.array([[9, 0, -4], [1, 2, 3], [0, 5, -10], [0, 0, 1]], np.float32)


class Fake:
    """Answers with `logits`, one row per image, and then with `more` outputs."""

    def __init__(self, logits: np.ndarray, *more: np.ndarray, backend: str = "fake", **options: Any) -> None:
        self._logits = logits.astype(np.float32)
        self._more = more
        self.output_names = ("logits", "features")[: 1 + len(more)]
        self.options: dict[str, Any] = {"backend": backend, **options}

    def run(self, images: Images) -> Logits:
        return self._logits[: len(images)]

    def run_all(self, images: Images) -> Outputs:
        return (self.run(images), *(value[: len(images)] for value in self._more))

    def bind(self, images: Images) -> Callable[[], None]:
        raise NotImplementedError

    def close(self) -> None: ...


def _compare(actual: np.ndarray, expected: np.ndarray = LOGITS, *, atol: float = 1e-5, rtol: float = 1e-4) -> Parity:
    return check_parity(Fake(expected), [Fake(actual)], [IMAGES], limits=Limits(atol, rtol))


def _shifted(by: float) -> np.ndarray:
    """One logit, which is nobody's first answer, moved."""
    logits = LOGITS.copy()
    logits[1, 0] += by
    return logits


def test_equal_sessions_pass() -> None:
    parity = _compare(LOGITS)

    (check,) = parity.checks
    assert parity.passed
    assert 1.0 == parity.top1_agreement
    assert (4, 0.0, 0.0, 10.0) == (check.batch, check.max_abs, check.max_rel, check.logit_scale)
    assert (1e-5, 1e-4, False, True) == (check.atol, check.rtol, check.vacuous, check.passed)


@pytest.mark.parametrize(
    ("shift", "atol", "rtol", "passed"),
    [
        (0.5, 0.25, 0.025, True),  # allowed: 0.25 + 0.025 * 10
        (0.5625, 0.25, 0.025, False),
        (-0.5625, 0.25, 0.025, False),
        (0.25, 0.25, 1e-9, True),
        (0.5, 0.25, 1e-9, False),
        (0.5, 1e-9, 0.0625, True),
        (0.5, 1e-9, 0.03125, False),
    ],
)
def test_a_difference_passes_within_atol_and_rtol_of_the_scale(
    shift: float, atol: float, rtol: float, passed: bool
) -> None:
    parity = _compare(_shifted(shift), atol=atol, rtol=rtol)

    (check,) = parity.checks
    assert passed == parity.passed == check.passed
    assert abs(shift) == check.max_abs
    assert abs(shift) / 10 == pytest.approx(check.max_rel)
    assert 1.0 == parity.top1_agreement


def test_verdict_follows_the_scale_of_the_reference() -> None:
    small, large = _shifted(0.5), _shifted(0.5) * 1024
    tolerance = {"atol": 1e-9, "rtol": 0.0625}

    assert _compare(small, **tolerance).passed
    assert _compare(large, LOGITS * 1024, **tolerance).passed
    assert not _compare(LOGITS / 1024 + 0.5, LOGITS / 1024, **tolerance).passed
    assert 512.0 == _compare(large, LOGITS * 1024, **tolerance).checks[0].max_abs


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [3.5, 3.5, 3.5], [1.0, 2.0, 3.0]])
def test_agreement_of_a_network_that_answers_every_image_alike_is_vacuous(row: list[float]) -> None:
    flat = np.array([row] * 4)

    assert _compare(flat, flat).vacuous
    assert _compare(flat, flat).passed
    assert not _compare(flat + 1, flat).passed
    assert not _compare(LOGITS, LOGITS).vacuous


def test_constant_answer_to_a_reference_that_speaks_fails_without_being_vacuous() -> None:
    parity = _compare(np.zeros((4, 3)))

    assert not parity.passed
    assert not parity.checks[0].vacuous
    assert (10.0, 1.0) == (parity.checks[0].max_abs, parity.checks[0].max_rel)


@pytest.mark.parametrize("shape", [(4, 2), (4, 3, 1), (3, 3), (4, 1)])
def test_other_shape_fails(shape: tuple[int, ...]) -> None:
    parity = _compare(np.ones(shape), atol=1e9, rtol=1e9)

    assert not parity.passed
    assert 0.0 == parity.top1_agreement
    _check_finite(parity)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_answer_that_is_not_finite_fails(value: float) -> None:
    actual = LOGITS.copy()
    actual[1, 0] = value

    parity = _compare(actual)

    assert not parity.passed
    assert not parity.checks[0].vacuous
    assert parity.checks[0].max_abs > 1e38
    _check_finite(parity)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("same", [True, False])
def test_reference_that_is_not_finite_fails(value: float, same: bool) -> None:
    expected = LOGITS.copy()
    expected[1, 0] = value

    parity = _compare(expected if same else LOGITS, expected)

    assert not parity.passed
    assert not parity.vacuous
    _check_finite(parity)


def test_top1_agreement_is_the_share_of_images_over_all_checks() -> None:
    one_off, two_off = LOGITS.copy(), LOGITS.copy()
    one_off[3] = [5, 0, 0]
    two_off[:2] = [[0, 1, 0], [1, 0, 0]]

    single = _compare(one_off)
    several = check_parity(Fake(LOGITS), [Fake(one_off), Fake(two_off)], [IMAGES, IMAGES[:1]], limits=Limits())

    assert 3 / 4 == single.top1_agreement
    assert (3 + 2 + 1 + 0) / 10 == several.top1_agreement


def test_every_batch_meets_every_session() -> None:
    sessions = [Fake(LOGITS, backend="onnxruntime", graph_optimization="off"), Fake(_shifted(1), backend="torch")]

    parity = check_parity(Fake(LOGITS), iter(sessions), iter([IMAGES[:1], IMAGES]), limits=Limits())

    assert [
        (1, "onnxruntime", "off", True),
        (1, "torch", "none", True),  # the image that was changed is not in this batch
        (4, "onnxruntime", "off", True),
        (4, "torch", "none", False),
    ] == [(check.batch, check.runtime, check.optimization, check.passed) for check in parity.checks]
    assert not parity.passed


def test_nothing_compared_is_not_agreement() -> None:
    assert not check_parity(Fake(LOGITS), [], [IMAGES], limits=Limits()).passed
    assert not check_parity(Fake(LOGITS), [Fake(LOGITS)], [], limits=Limits()).passed


def test_every_output_is_compared_under_its_name() -> None:
    features = np.arange(8, dtype=np.float32).reshape(4, 2, 1)

    same = check_parity(Fake(LOGITS, features), [Fake(LOGITS, features)], [IMAGES], limits=Limits())
    other = check_parity(Fake(LOGITS, features), [Fake(LOGITS, features + 1)], [IMAGES], limits=Limits())
    missing = check_parity(Fake(LOGITS, features), [Fake(LOGITS)], [IMAGES], limits=Limits())

    assert [("logits", True), ("features", True)] == [(check.output, check.passed) for check in same.checks]
    assert [("logits", True), ("features", False)] == [(check.output, check.passed) for check in other.checks]
    assert [False, False] == [check.passed for check in missing.checks]
    assert "it has 1 outputs where the model has 2" in missing.complaint()
    assert [1.0, None] == [check.top1_agreement for check in other.checks]
    assert 1.0 == other.top1_agreement
    assert "'features'" in other.complaint()
    _check_finite(missing)


def test_outputs_without_classes_have_no_first_answer() -> None:
    features = np.arange(8, dtype=np.float32).reshape(4, 2, 1)

    parity = check_parity(Fake(features), [Fake(features)], [IMAGES], limits=Limits(min_top1=1.0))

    assert parity.top1_agreement is None
    assert parity.passed


@pytest.mark.parametrize(("asked", "passed"), [(0.75, True), (0.8, False)])
def test_least_share_of_first_answers_is_asked_of_all_images_together(asked: float, passed: bool) -> None:
    actual = LOGITS.copy()
    actual[3] = [5, 0, 0]

    parity = check_parity(Fake(LOGITS), [Fake(actual)], [IMAGES], limits=Limits(rtol=1.0, min_top1=asked))

    assert passed == parity.passed
    assert passed or "75.0% of the first answers are the model's; 80.0% are asked for" == parity.complaint()


def test_root_mean_square_is_that_of_the_difference_over_that_of_the_reference() -> None:
    actual = LOGITS + np.array([[0.5, 0, 0], [0, -0.25, 0], [0, 0, 0], [0, 0, 1]], np.float32)
    apart, right = actual.astype(np.float64) - LOGITS, LOGITS.astype(np.float64)
    expected = (sum(x * x for x in apart.flat) / 12) ** 0.5 / (sum(x * x for x in right.flat) / 12) ** 0.5

    def passed(limit: float) -> bool:
        limits = Limits(rtol=1.0, max_rms=limit)
        return check_parity(Fake(LOGITS), [Fake(actual)], [IMAGES], limits=limits).passed

    limits = Limits(rtol=1.0, max_rms=1e-3)
    said = check_parity(Fake(LOGITS), [Fake(actual)], [IMAGES], limits=limits).complaint()

    assert "root mean square" in said
    assert "where 0.001 is allowed" in said
    assert expected == pytest.approx(_compare(actual).checks[0].rms_rel)
    assert passed(expected * 1.01)
    assert not passed(expected * 0.99)


def test_a_network_that_answers_every_image_alike_is_vacuous_whatever_the_batch() -> None:
    flat = np.array([[1.0, 2.0, 3.0]] * 4)

    parity = check_parity(Fake(flat), [Fake(flat)], [IMAGES[:1], IMAGES[:2]], limits=Limits())
    single = check_parity(Fake(flat), [Fake(flat)], [IMAGES[:1]], limits=Limits())

    assert parity.vacuous
    assert not single.vacuous  # of one image there is only its own answer to see


def test_limits_that_a_constant_would_keep_are_vacuous() -> None:
    """The logits spread over 13 in one column; half of that, 6.5 of a scale of 10, is allowed either way."""
    assert not _compare(LOGITS, atol=1e-9, rtol=0.64).vacuous
    assert _compare(LOGITS, atol=1e-9, rtol=0.66).vacuous


def test_session_that_cannot_run_a_batch_fails_with_its_reason() -> None:
    class Fixed(Fake):
        def run_all(self, images: Images) -> Outputs:
            if len(images) != 4:
                raise ExportError("cannot run on (1, 1, 1, 1)")
            return super().run_all(images)

    parity = check_parity(Fake(LOGITS), [Fixed(LOGITS)], [IMAGES, IMAGES[:1]], limits=Limits())

    assert [True, False] == [check.passed for check in parity.checks]
    assert "batch 1" in parity.complaint()
    assert "cannot run on (1, 1, 1, 1)" in parity.complaint()
    _check_finite(parity)


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (LOGITS[:, :2], LOGITS, "the answer is (4, 2) where the model's is (4, 3)"),
        (np.full((4, 3), np.nan), LOGITS, "the answer is NaN or infinite"),
        (LOGITS, np.full((4, 3), np.inf), "the model's own answer is NaN or infinite"),
        (_shifted(0.5), LOGITS, "0.5 in 'logits' at batch 4 of images images"),
    ],
)
def test_complaint_says_what_is_wrong_in_one_line(actual: np.ndarray, expected: np.ndarray, said: str) -> None:
    complaint = _compare(actual, expected).complaint()

    assert said in complaint
    assert 1 == len(complaint.splitlines())


def test_probes_are_real_images_and_noise_in_every_batch() -> None:
    images = np.arange(3 * 4, dtype=np.float32).reshape(3, 1, 2, 2)

    probes = make_probes(images, (1, 2, 7))

    assert [("real", 1), ("real", 2), ("real", 7), ("noise", 1), ("noise", 2), ("noise", 7)] == [
        (probe.source, len(probe.images)) for probe in probes
    ]
    assert np.array_equal(images[[0, 1, 2, 0, 1, 2, 0]], probes[2].images)
    assert 0.5 < probes[5].images.std() < 1.5
    assert np.array_equal(probes[5].images, make_probes(images, (1, 2, 7))[5].images)


def test_noise_for_bytes_is_bytes() -> None:
    noise = make_probes(np.zeros((1, 64, 64, 3), np.uint8), (1,))[1].images

    assert np.uint8 == noise.dtype
    assert (0, 255) == (noise.min(), noise.max())


def test_json_tells_all() -> None:
    parity = check_parity(
        Fake(LOGITS), [Fake(_shifted(0.5))], [Probe(IMAGES, "real")], limits=Limits(0.25, 0.0625, 0.5, 0.25)
    )
    stored = json.loads(json.dumps(parity.to_json(), allow_nan=False))

    check = {
        "batch": 4,
        "images": "real",
        "runtime": "fake",
        "optimization": "none",
        "output": "logits",
        "max_abs": 0.5,
        "max_rel": 0.05,
        "rms_rel": pytest.approx(0.5 / float(np.square(LOGITS).sum()) ** 0.5),
        "logit_scale": 10.0,
        "top1_agreement": 1.0,
        "atol": 0.25,
        "rtol": 0.0625,
        "max_rms": 0.25,
        "vacuous": False,
        "passed": True,
        "reason": None,
    }
    expected = {"schema": 2, "passed": True, "vacuous": False, "top1_agreement": 1.0, "min_top1": 0.5}
    assert {**expected, "checks": [check], "divergence": None} == stored


def _check_finite(parity: Parity) -> None:
    json.dumps(parity.to_json(), allow_nan=False)


def test_where_sizes_are_open_two_images_are_twice_as_large() -> None:
    images = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3)

    *usual, larger = make_probes(images, (1, 5), open_axes=(1, 2))

    assert [probe.source for probe in make_probes(images, (1, 5))] == [probe.source for probe in usual]
    assert ("enlarged", (2, 4, 4, 3), np.uint8) == (larger.source, larger.images.shape, larger.images.dtype)
    for row in (0, 1):
        for column in (0, 1):
            assert np.array_equal(images[:2], larger.images[:, row::2, column::2])


class Mean(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.relu().mean((2, 3))


@pytest.mark.parametrize("noise", [True, False])
def test_a_graph_that_is_right_at_one_size_alone_is_found(noise: bool) -> None:
    body = "p = AveragePool<kernel_shape = [6, 6], strides = [9, 9]>(r) logits = Flatten<axis = 1>(p)"
    fixed, whole = f"r = Relu(images) {body}", "r = Relu(images) p = GlobalAveragePool(r) logits = Flatten<axis = 1>(p)"
    images = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    graphs = [Graph(model(text, shape="batch, 3, h, w", out="batch, c"), ()) for text in (fixed, whole)]

    wrong, right = (verify(Mean(), graph, images, Limits(), batches=(1,), noise=noise) for graph in graphs)

    assert right.passed
    assert {"enlarged"} == {check.images for check in wrong.checks if not check.passed}
    assert "batch 2 of enlarged images" in wrong.complaint()
    closed = Graph(model(fixed, out="batch, c"), ())
    assert verify(Mean(), closed, images, Limits(), batches=(1,)).passed
