"""Numbers as people read them."""

from __future__ import annotations

import math

ABSENT = "n/a"


def number(value: float | None) -> str:
    """Three significant digits or all digits before the point, never an exponent: 0.812, 28.1, 1,234."""
    if value is None or not math.isfinite(value):
        return ABSENT
    size = abs(value)
    decimals = next((d for limit, d in ((99.95, 0), (9.995, 1), (0.9995, 2)) if size >= limit), 3)
    return f"{value:,.{decimals}f}"


def significant(value: float | None) -> str:
    """Four significant digits, of any magnitude: 0.01512, 28.13, 92,264, 1.235e+06, 4e-05."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if 1000 <= abs(value) < 999_999.5 else f"{value:.4g}"


def milliseconds(value: float | None) -> str:
    return ABSENT if value is None else f"{number(value)} ms"


def seconds(value: float | None) -> str:
    """Below two minutes in seconds, then minutes, then hours."""
    if value is None:
        return ABSENT
    if value < 120:
        return f"{number(value)} s"
    return f"{number(value / 60)} min" if value < 7200 else f"{number(value / 3600)} h"


def size(value: float | None) -> str:
    """Bytes in powers of 1000: 512 B, 11.2 MB."""
    if value is None:
        return ABSENT
    if abs(value) < 1000:
        return f"{value:.0f} B"
    power = min(int(math.log10(abs(value)) // 3), 4)
    return f"{number(value / 1000**power)} {' kMGT'[power]}B"


def percent(fraction: float | None) -> str:
    """One decimal; more where one would round a small share to 0 or a large one to 100."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    rest = min(abs(fraction), abs(1 - fraction))
    decimals = 1 if rest == 0 or rest >= 0.0005 else min(12, math.ceil(-math.log10(rest)) - 1)
    return f"{100 * fraction:.{decimals}f} %"


def count(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """4.09 G, 23.5 M; exact below 10,000."""
    if value is None or abs(value) < 10_000:
        return count(value)
    power = min(int(math.log10(abs(value)) // 3), 4)
    return f"{number(value / 1000**power)} {' kMGT'[power]}"


def times(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.2f}x"


def plural(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share counted on `n` images (Wilson 1927); stays inside [0, 1] also at 0 and 1."""
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
