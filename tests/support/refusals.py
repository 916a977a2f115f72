"""What data that cannot be used are refused with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntksap_export.data import open_data
from ntksap_export.errors import DataError


def refusal(source: Path | str, **options: object) -> str:
    """The message with which `open_data` refuses; it must be one line."""
    with pytest.raises(DataError) as caught:
        open_data(str(source), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message
