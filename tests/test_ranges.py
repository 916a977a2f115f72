from __future__ import annotations

import pytest

from ntksap_export.ranges import read_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("2GiB", 2**31), ("64KiB", 65536), ("800", 800), ("7B", 7)],
)
def test_a_number_of_bytes(text: str, count: int) -> None:
    assert count == read_bytes(text)


@pytest.mark.parametrize("text", ["", "0", "0.2", "-1GB", "5XB", "GB", "5G", "nan", "\u0665"])
def test_no_number_of_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size such as 5GB, 500MB or 2GiB; got"):
        read_bytes(text)
