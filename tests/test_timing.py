"""Timing: a median and its interval, as a row of a file."""

from __future__ import annotations

import pytest

from ntksap_export.timing import Timing


def test_a_row_reads_as_it_was_written() -> None:
    timing = Timing(1.25, 1.0, 1.5, 40)

    assert timing == Timing.from_json(timing.to_json())


@pytest.mark.parametrize(
    "row",
    [None, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4], [1.0, 1.0, 1.0, 0], [0, 0, 0, 1], ["1", 1.0, 1.0, 1], [1, 1, 1, 1.5]],
)
def test_anything_else_is_no_row(row: object) -> None:
    with pytest.raises(ValueError, match="a timing is"):
        Timing.from_json(row)
