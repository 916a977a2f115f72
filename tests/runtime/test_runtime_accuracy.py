"""Accuracy before and after: plain counting, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from ntksap_export.runtime.accuracy import Judged, judge, sqnr_db

BEFORE = np.array([[3, 0, 1], [0, 2, 0], [1, 0, 5], [4, 0, 0]], np.float32)
AFTER = np.array([[3, 0, 1], [0, 2, 0], [6, 0, 5], [4, 0, 0.5]], np.float32)
LABELS = np.array([0, 1, 2, 2])


def test_both_are_judged_over_all_images() -> None:
    noise = 5.0**2 + 0.5**2
    signal = float((BEFORE.astype(np.float64) ** 2).sum())

    judged = judge(BEFORE, AFTER, LABELS)

    assert Judged(4, 0.75, 0.5, 0.75, pytest.approx(10 * np.log10(signal / noise))) == judged
    assert 25.0 == judged.drop


@pytest.mark.parametrize(
    ("other", "expected"), [(BEFORE, 200.0), (np.full_like(BEFORE, np.nan), -200.0), (0 * BEFORE, 0.0)]
)
def test_sqnr_is_a_number_at_the_ends_too(other: np.ndarray, expected: float) -> None:
    assert expected == sqnr_db(BEFORE, other)


def test_of_a_silent_reference_nothing_is_right() -> None:
    assert -200.0 == sqnr_db(0 * BEFORE, BEFORE)
