"""A grid of shares as inline SVG: darker is more, and every cell says its number."""

from __future__ import annotations

from collections.abc import Sequence

from ntksap_export.report.plots import svg

_PITCH, _HEAD, _FONT = 14.0, 60.0, 10.0
_MOST_NAME = 26


def heat_map(rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]], *, label: str) -> str:
    """Rows by columns of shares in [0, 1].

    Args:
        rows: names, shortened from the front where they are long.
        columns: names, written at a slant.
        shares: one sequence per row, one share per column.
        label: read out for the picture.
    """
    if not rows or not columns:
        return ""
    longest = min(_MOST_NAME, max(len(name) for name in rows))
    left = 8 + longest * _FONT * svg.CHARACTER
    width = min(46.0, (svg.WIDTH - left - 24) / len(columns))
    parts = [
        svg.text(
            0,
            0,
            name,
            font_size=_FONT,
            transform=f"translate({left + (index + 0.5) * width:.1f} {_HEAD - 5:.1f}) rotate(-50)",
        )
        for index, name in enumerate(columns)
    ]
    for line, (name, values) in enumerate(zip(rows, shares, strict=True)):
        y = _HEAD + line * _PITCH
        parts.append(svg.text(left - 5, y + 10, svg.shorten(name, longest), text_anchor="end", font_size=_FONT))
        for index, share in enumerate(values):
            parts.append(_cell(left + index * width, y, width, share, f"{name}, {columns[index]}"))
    return svg.chart(_HEAD + _PITCH * len(rows) + 4, label, parts)


def _cell(x: float, y: float, width: float, share: float, title: str) -> str:
    dark = share > 0.55
    box = svg.element(
        "rect",
        x=x,
        y=y,
        width=width - 1,
        height=_PITCH - 1,
        fill=svg.colour(1),
        fill_opacity=f"{0.06 + 0.94 * share:.2f}",
    )
    ink: dict[str, str | float] = {"fill": "var(--paper,#fff)"} if dark else {}
    number = svg.text(x + width / 2 - 0.5, y + 9.5, percent_of(share), text_anchor="middle", font_size=8.5, **ink)
    return svg.element("g", f"<title>{svg.escape(f'{title}: {share:.2%}')}</title>{box}{number}")


def percent_of(share: float) -> str:
    """A share in at most three characters: 100, 42, 4.2, .04; 0 is nothing at all."""
    value = 100 * share
    if value == 0 or value >= 9.95:
        return f"{value:.0f}"
    text = f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
    return text if value >= 0.95 else text.removeprefix("0")
