from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ntksap_export.runtime.parity import Parity, check_parity
from ntksap_export.runtime.session import Images, Logits

IMAGES = np.zeros((4, 1, 1, 1), np.float32)
# The largest absolute logit is 10, a negative one; first answers 0, 2, 1, 2.
LOGITS = np.array([[9, 0, -4], [1, 2, 3], [0, 5, -10], [0, 0, 1]], np.float32)


class Fake:
    """Answers with `logits`, one row per image."""

    def __init__(self, logits: np.ndarray, backend: str = "fake", **options: Any) -> None:
        self._logits = logits.astype(np.float32)
        self.options: dict[str, Any] = {"backend": backend, **options}

    def run(self, images: Images) -> Logits:
        return self._logits[: len(images)]

    def bind(self, images: Images) -> Callable[[], None]:
        raise NotImplementedError

    def close(self) -> None: ...


def _compare(actual: np.ndarray, expected: np.ndarray = LOGITS, *, atol: float = 1e-5, rtol: float = 1e-4) -> Parity:
    return check_parity(Fake(expected), [Fake(actual)], [IMAGES], atol=atol, rtol=rtol)


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
    several = check_parity(Fake(LOGITS), [Fake(one_off), Fake(two_off)], [IMAGES, IMAGES[:1]], atol=1e-5, rtol=1e-4)

    assert 3 / 4 == single.top1_agreement
    assert (3 + 2 + 1 + 0) / 10 == several.top1_agreement


def test_every_batch_meets_every_session() -> None:
    sessions = [Fake(LOGITS, "onnxruntime", graph_optimization="off"), Fake(_shifted(1), "torch")]

    parity = check_parity(Fake(LOGITS), iter(sessions), iter([IMAGES[:1], IMAGES]), atol=1e-5, rtol=1e-4)

    assert [
        (1, "onnxruntime", "off", True),
        (1, "torch", "none", True),  # the image that was changed is not in this batch
        (4, "onnxruntime", "off", True),
        (4, "torch", "none", False),
    ] == [(check.batch, check.runtime, check.optimization, check.passed) for check in parity.checks]
    assert not parity.passed


def test_nothing_compared_is_not_agreement() -> None:
    assert not check_parity(Fake(LOGITS), [], [IMAGES], atol=1e-5, rtol=1e-4).passed
    assert not check_parity(Fake(LOGITS), [Fake(LOGITS)], [], atol=1e-5, rtol=1e-4).passed


def test_json_tells_all() -> None:
    stored = json.loads(json.dumps(_compare(_shifted(0.5), atol=0.25, rtol=0.5).to_json(), allow_nan=False))

    check = {
        "batch": 4,
        "runtime": "fake",
        "optimization": "none",
        "max_abs": 0.5,
        "max_rel": 0.05,
        "logit_scale": 10.0,
        "atol": 0.25,
        "rtol": 0.5,
        "vacuous": False,
        "passed": True,
    }
    assert {"schema": 1, "passed": True, "vacuous": False, "top1_agreement": 1.0, "checks": [check]} == stored


def _check_finite(parity: Parity) -> None:
    json.dumps(parity.to_json(), allow_nan=False)
