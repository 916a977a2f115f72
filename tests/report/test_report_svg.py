"""Charts: well-formed, to scale, and safe with any name."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.report import charts, svg

from .sample import sample

HOSTILE = "<script>alert(\"1\")</script> & 'x' ]]> \x00"
FINITE = st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(FINITE, FINITE, st.integers(2, 12), st.booleans())
def test_ticks_enclose_the_range_evenly_in_round_steps(a: float, b: float, count: int, whole: bool) -> None:
    low, high = min(a, b), max(a, b)
    ticks = svg.nice_ticks(low, high, count, whole=whole)
    step = ticks[1] - ticks[0]
    slack = 1e-6 * step

    assert 2 <= len(ticks) <= 2 * count + 3
    assert ticks[0] <= low + slack and high - slack <= ticks[-1]
    assert all(math.isclose(y - x, step, rel_tol=1e-5) for x, y in pairwise(ticks))
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-4)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-3
    assert not whole or step >= 1


def test_ticks_of_everyday_ranges() -> None:
    assert svg.nice_ticks(0, 97) == (0, 20, 40, 60, 80, 100)
    assert svg.nice_ticks(1, 5, 6, whole=True) == (1, 2, 3, 4, 5)
    assert svg.nice_ticks(3, 3)[0] < 3 < svg.nice_ticks(3, 3)[-1]


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_ticks_of_no_range_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="finite low <= high"):
        svg.nice_ticks(low, high)


def _charts(name: str) -> list[str]:
    bars = (svg.Bar(name, 3.0, name, 0, (4.0, 5.0)), svg.Bar("sparse", -2.0, "-2", 1))
    lines = [svg.Line(name, ((1, 0.5), (2, math.nan), (3, 0.7))), svg.Line("b", ((1, 0.2),))]
    return [
        svg.bar_chart([svg.Group(name, bars)], label=name, axis=name, tick_format="{:g}".format),
        svg.line_chart(lines, label=name, x_name=name, y_name=name, y_format="{:g}".format),
        svg.row_chart([svg.Row(name, 0.5, 1.0, "50 %", name)], label=name, tick_format="{:g}".format),
    ]


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_name_gives_well_formed_markup(name: str) -> None:
    for markup in _charts(name):
        ElementTree.fromstring(markup)


def test_a_hostile_name_is_text() -> None:
    for markup in _charts(HOSTILE):
        root = ElementTree.fromstring(markup)

        assert {"script"}.isdisjoint(node.tag for node in root.iter())
        assert "alert" in "".join(root.itertext())
        assert set(root.attrib) == {"viewBox", "role", "aria-label", "fill", "font-size", "class"}


def test_bars_are_to_scale_and_negative_ones_are_empty() -> None:
    bars = (svg.Bar("dense", 10.0, "10"), svg.Bar("sparse", 5.0, "5"), svg.Bar("delta", -3.0, "-3"))
    root = ElementTree.fromstring(svg.bar_chart([svg.Group("g", bars)], label="", axis="ms", tick_format=str))
    dense, sparse, delta = (float(rect.attrib["width"]) for rect in root.iter("rect"))

    assert dense == pytest.approx(2 * sparse, abs=0.02)
    assert delta <= 0.5


def test_words_of_a_chart_stay_inside_it() -> None:
    profile, mask = sample().profile, sample().mask
    for figure in [
        *charts.latency_figures(profile),
        *charts.memory_figures(profile),
        *charts.layer_figures(mask),
    ]:
        root = ElementTree.fromstring(figure.picture)
        width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
        for node in root.iter("text"):
            x, y, length = float(node.attrib["x"]), float(node.attrib["y"]), len(node.text or "") * 5.5
            start = {"end": x - length, "middle": x - length / 2}.get(node.attrib.get("text-anchor", ""), x)

            assert start >= -8 and start + length <= width + 8, node.text
            assert 0 < y <= height, node.text


def test_one_epoch_is_a_point_and_none_is_no_chart() -> None:
    point = svg.line_chart([svg.Line("a", ((1, 0.5),))], label="", x_name="", y_name="", y_format=str)

    assert len(list(ElementTree.fromstring(point).iter("circle"))) == 1
    assert svg.line_chart([svg.Line("a", ())], label="", x_name="", y_name="", y_format=str) == ""
    assert svg.bar_chart([], label="", axis="", tick_format=str) == ""
    assert svg.row_chart([], label="", tick_format=str) == ""


def test_every_layer_has_its_whole_name_in_a_title() -> None:
    names = [row["name"] for row in sample().mask["table"]["rows"]]
    for figure in charts.layer_figures(sample().mask):
        titles = [node.text or "" for node in ElementTree.fromstring(figure.picture).iter("title")]

        assert len(names) == 54 == len(titles)
        assert all(title.startswith(f"{name}: ") for name, title in zip(names, titles, strict=True))


def test_batches_do_not_share_an_axis() -> None:
    captions = [figure.caption for figure in charts.latency_figures(sample().profile)]

    assert [caption.partition(":")[0] for caption in captions] == [
        "Latency on cpu at batch 1",
        "Latency on cpu at batch 8",
    ]
