"""Ranges that more than one room checks."""

from __future__ import annotations

from ntksap_export.errors import ConfigError


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
