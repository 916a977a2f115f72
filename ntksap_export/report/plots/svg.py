"""The marks that every picture is made of.

All pictures are 360 units wide and scale with their box, so that words stay readable from a phone's 330 pixels to 470.
Words and lines follow `currentColor`; a series takes one of the CSS variables `--c0` to `--c7`, and differs in form too
(dashes, the shape of a dot, words beside a bar), so that colour is never the only sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as html_escape

WIDTH = 360.0
COLOURS = ("#b85c00", "#0067a8", "#1b7a3d", "#8a3ea8", "#b3261e", "#5d6600", "#00707a", "#5b6675")
"""The light ones, for a picture that stands without the page's style; `style.css` holds them and the dark ones."""
CHARACTER = 0.6
"""Mean width of a character / font size; for cutting and placing words, not for layout to the pixel."""
_DASHES = ("none", "6 3", "2 3", "8 3 2 3")

_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Value = str | float


def escape(text: str) -> str:
    """Text that is safe in content and attributes of HTML and of XML."""
    return html_escape(_NOT_XML.sub("�", text), quote=True)


def element(tag: str, content: str = "", /, **attributes: Value) -> str:
    """One element. `content` is markup; attribute values are escaped, `_` in their names becomes `-`."""
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items())
    return f"<{tag}{pairs}>{content}</{tag}>" if content else f"<{tag}{pairs}/>"


def _value(value: Value) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.1f}".rstrip("0").rstrip(".")


def text(x: float, y: float, words: str, **attributes: Value) -> str:
    return element("text", escape(words), x=x, y=y, **attributes)


def width_of(words: str, size: float = 11) -> float:
    """About how wide words are, in units of the picture."""
    return len(words) * size * CHARACTER


def rule(x1: float, y1: float, x2: float, y2: float, opacity: float, **attributes: Value) -> str:
    return element(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_opacity=f"{opacity:g}", **attributes
    )


def group(title: str, *parts: str, **attributes: Value) -> str:
    """Marks that belong together; `title` is shown where the pointer rests and read out."""
    return element("g", (f"<title>{escape(title)}</title>" if title else "") + "".join(parts), **attributes)


def shorten(words: str, characters: int) -> str:
    """Cut from the front, since the end of a layer's name tells it apart."""
    return words if len(words) <= characters else "…" + words[len(words) - characters + 1 :]


def colour(series: int) -> str:
    place = series % len(COLOURS)
    return f"var(--c{place},{COLOURS[place]})"


def dash(series: int) -> str:
    return _DASHES[(series // 2 + series) % len(_DASHES)] if series >= len(_DASHES) else _DASHES[series]


def path(points: Sequence[tuple[float, float]], series: int, **attributes: Value) -> str:
    """A line through points of the picture."""
    inside: dict[str, Value] = {"fill": "none", "stroke": colour(series), "stroke_width": 2, **attributes}
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **inside)


def mark(shape: int, x: float, y: float, size: float, **attributes: Value) -> str:
    """A dot whose form tells its series: circle, square, triangle, diamond."""
    if shape % 4 == 0:
        return element("circle", cx=x, cy=y, r=size, **attributes)
    if shape % 4 == 1:
        return element("rect", x=x - 0.9 * size, y=y - 0.9 * size, width=1.8 * size, height=1.8 * size, **attributes)
    corners = (
        ((0, -1.25), (1.15, 0.85), (-1.15, 0.85)) if shape % 4 == 2 else ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))
    )
    return element(
        "polygon", points=" ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in corners), **attributes
    )


def chart(height: float, label: str, parts: Sequence[str]) -> str:
    """The outer element: scales to its box, read out as `label`."""
    return element(
        "svg",
        f"<title>{escape(label)}</title>" + "".join(parts),
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        fill="currentColor",
        font_size=11,
        class_="chart",
    )
