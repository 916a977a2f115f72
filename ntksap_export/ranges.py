"""Ranges and numbers that more than one room reads."""

from __future__ import annotations

import re

from ntksap_export.errors import ConfigError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def check_sparsity(value: float) -> None:
    """Refuse a sparsity outside [0, 1), with the likely intention in the message.

    Raises:
        ConfigError: always, outside [0, 1).
    """
    if 0.0 <= value < 1.0:
        return
    hint = "0 keeps everything and 0.9 removes 90 %"
    if 1.0 < value < 100.0:
        hint = f"For {value:g} % write --sparsity {value / 100:g}"
    elif value == 1.0:
        hint = "1 would remove every weight; 0.99 keeps one in a hundred"
    raise ConfigError(f"sparsity must be in [0, 1); got {value:g}. {hint}")


def check_share(name: str, value: float) -> None:
    """Refuse a share outside [0, 1]; `name` is the flag's.

    Raises:
        ConfigError: always, outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} must be in [0, 1]; got {value:g}")


def read_count(text: str) -> int:
    """A whole number, with k, M or G behind it or not: `2.5M` is 2,500,000.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"\s*([\d_,]+(?:\.\d+)?)\s*([kKmMgGbB]?)\s*", text)
    if not found or not (digits := re.sub("[_,]", "", found[1])):
        raise ValueError(f"must be a number such as 250000, 250k or 2.5M; got '{text}'")
    return round(float(digits) * _UNITS[found[2].lower()])


def read_bytes(text: str) -> int:
    """A number of bytes: `5GB` is 5,000,000,000, `2GiB` is 2,147,483,648, and without a unit it is bytes.

    Raises:
        ValueError: it is none, or less than one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmg]i?)?b)?\s*", text, re.IGNORECASE | re.ASCII)
    count = round(float(found[1]) * _BYTES[(found[2] or "").lower()]) if found else 0
    if count < 1:
        raise ValueError(f"must be a size such as 5GB, 500MB or 2GiB; got '{text}'")
    return count
