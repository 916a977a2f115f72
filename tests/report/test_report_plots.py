"""Charts: well-formed, to scale, and safe with any name."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.report import charts, latency, nodes, plots
from ntksap_export.report.document import Figure
from ntksap_export.report.plots import axes

from .sample import profile2, sample

HOSTILE = "<script>alert(\"1\")</script> & 'x' ]]> \x00"
FINITE = st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(FINITE, FINITE, st.integers(2, 12), st.booleans())
def test_ticks_enclose_the_range_evenly_in_round_steps(a: float, b: float, count: int, whole: bool) -> None:
    low, high = min(a, b), max(a, b)
    ticks = axes.nice_ticks(low, high, count, whole=whole)
    step = ticks[1] - ticks[0]
    slack = 1e-6 * step

    assert 2 <= len(ticks) <= 2 * count + 3
    assert ticks[0] <= low + slack and high - slack <= ticks[-1]
    assert all(math.isclose(y - x, step, rel_tol=1e-5) for x, y in pairwise(ticks))
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-4)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-3
    assert not whole or step >= 1


def test_ticks_of_everyday_ranges() -> None:
    assert axes.nice_ticks(0, 97) == (0, 20, 40, 60, 80, 100)
    assert axes.nice_ticks(1, 5, 6, whole=True) == (1, 2, 3, 4, 5)
    assert axes.nice_ticks(3, 3)[0] < 3 < axes.nice_ticks(3, 3)[-1]


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_ticks_of_no_range_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="finite low <= high"):
        axes.nice_ticks(low, high)


def _charts(name: str) -> list[str]:
    bars = (plots.Bar(name, 3.0, name, 0), plots.Bar("sparse", -2.0, "-2", 1))
    curves = [plots.Curve(name, ((1, 0.5), (2, math.nan), (3, 0.7))), plots.Curve("b", ((1, 0.2),), 1)]
    dots = plots.Dots(name, (plots.Dot(2, 0.6, name, name, ring=True, spread=(1.5, 2.5)),), 2, 3)
    x, y = plots.linear(name, [1, 3], whole=True), plots.log(name, [0.2, 0.7])
    strip = plots.Strip(name, name, name, 3.0, 4.0, 5.0, 2.0, (2.5, 3.5), (2.9, 3.1))
    return [
        plots.bar_chart([plots.Group(name, bars)], label=name, axis=name),
        plots.plot(x, y, [*curves, dots, plots.Limit("y", 0.5, name), plots.Limit("x", 2, name)], label=name),
        plots.row_chart([plots.Row(name, 0.5, 1.0, "50 %", name)], label=name, axis=name),
        plots.strip_chart([(name, [strip])], label=name, axis=name),
        plots.forest_chart([(name, [plots.Forest(name, name, name, 1.1, 0.2, 1.2)])], label=name, axis=name),
        plots.heat_map([name], [name], [[0.5]], label=name),
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
        assert set(root.attrib) == {"viewBox", "role", "fill", "font-size", "class"}


def test_bars_are_to_scale_and_negative_ones_are_empty() -> None:
    bars = (plots.Bar("dense", 10.0, "10"), plots.Bar("sparse", 5.0, "5"), plots.Bar("delta", -3.0, "-3"))
    root = ElementTree.fromstring(plots.bar_chart([plots.Group("g", bars)], label="", axis="ms"))
    dense, sparse, delta = (float(rect.attrib["width"]) for rect in root.iter("rect"))

    assert dense == pytest.approx(2 * sparse, abs=0.2)
    assert delta <= 0.5


def test_boxes_and_ratios_are_to_scale() -> None:
    strip = plots.Strip("a", "10", "", 10.0, 15.0, 20.0, 5.0, (8.0, 12.0), (9.0, 11.0))
    root = ElementTree.fromstring(plots.strip_chart([("", [strip])], label="", axis="ms"))
    box, interval = (float(rect.attrib["width"]) for rect in root.iter("rect"))

    assert box == pytest.approx(2 * interval, abs=0.2)

    forest = plots.Forest("a", "", "", 1.5, 1.0, 2.0)
    root = ElementTree.fromstring(plots.forest_chart([("", [forest])], label="", axis="x"))
    (low, high), (mark,) = (
        [float(node.attrib[key]) for key in keys]
        for keys, node in zip(
            (("x1", "x2"), ("x",)),
            (next(n for n in root.iter("line") if n.get("stroke-width") == "2"), next(root.iter("rect"))),
            strict=True,
        )
    )

    assert (low + high) / 2 == pytest.approx(mark + 3.6, abs=0.2)


def test_a_logarithmic_axis_has_round_ticks_around_its_values() -> None:
    axis = plots.log("x", [0.3, 40.0])

    assert axis is not None
    assert axis.ticks == pytest.approx((0.2, 0.5, 1, 2, 5, 10, 20, 50))
    assert axis.share(0.2) == pytest.approx(0) and axis.share(50) == pytest.approx(1)
    assert axis.share(math.sqrt(0.2 * 50)) == pytest.approx(0.5)


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_a_logarithmic_axis_encloses_its_values(a: float, b: float) -> None:
    axis = plots.log("x", [a, b])

    assert axis is not None and len(axis.ticks) >= 2
    assert axis.low <= min(a, b) * (1 + 1e-9) and max(a, b) <= axis.high * (1 + 1e-9)


def _figures() -> list[Figure]:
    data = sample(profile=profile2())
    made = [
        *latency.overview(data),
        *latency.distributions(data),
        *latency.under_load(data),
        *charts.memory_figures(data),
        *charts.layer_figures(data.mask),
        charts.sizes_figure(data),
        charts.throughput_figure(data),
        charts.history(data.metrics, "accuracy", "Top-1.", "top-1, %", 100),
        nodes.time_figure(data),
        nodes.roofline(data),
    ]
    return [figure for figure in made if figure]


def test_words_of_a_chart_stay_inside_it() -> None:
    assert len(_figures()) == 18
    for figure in _figures():
        root = ElementTree.fromstring(figure.picture)
        width, height = (float(side) for side in root.attrib["viewBox"].split()[2:])
        for node in root.iter("text"):
            x, y, length = float(node.attrib["x"]), float(node.attrib["y"]), len(node.text or "") * 5.2
            start = {"end": x - length, "middle": x - length / 2}.get(node.attrib.get("text-anchor", ""), x)

            assert start >= -8 and start + length <= width + 8, node.text
            assert 0 < y <= height, node.text


def test_no_label_lies_on_a_dot_or_on_the_words_of_a_limit() -> None:
    """The corners of a trade-off, where the best point stands right beside the limit."""
    dots = [plots.Dot(x, 39.0, f"at {x}", label="dense") for x in (0.25, 0.27)]
    marks = [plots.Dots("a", tuple(dots)), plots.Limit("x", 0.25, "at most 0.250 ms")]
    x, y = plots.linear("x", [0.25, 0.5], zero=True), plots.linear("y", [20, 40])
    root = ElementTree.fromstring(plots.plot(x, y, marks, label="a"))
    words = {node.text: node for node in root.iter("text")}
    label, limit = (float(words[text].attrib["y"]) for text in ("dense", "at most 0.250 ms"))

    assert abs(label - limit) >= 11


def test_no_data_is_no_chart() -> None:
    x = plots.linear("x", [1.0])

    assert "" == plots.plot(x, x, [plots.Curve("a", ())], label="")
    assert "" == plots.plot(None, x, [plots.Curve("a", ((1, 1),))], label="")
    assert "" == plots.plot(x, x, [plots.Limit("x", 1.0, "")], label="")
    assert "" == plots.bar_chart([], label="", axis="") == plots.row_chart([], label="", axis="")
    assert "" == plots.strip_chart([], label="", axis="") == plots.forest_chart([], label="", axis="")


def test_one_epoch_is_a_point() -> None:
    x, y = plots.linear("x", [1.0]), plots.linear("y", [0.5])
    root = ElementTree.fromstring(plots.plot(x, y, [plots.Curve("", ((1, 0.5),))], label=""))

    assert len(list(root.iter("circle"))) == 1


def test_every_layer_has_its_whole_name_in_a_title() -> None:
    names = [row["name"] for row in sample().mask["table"]["rows"]]
    for figure in charts.layer_figures(sample().mask):
        assert figure is not None
        _, *titles = [node.text or "" for node in ElementTree.fromstring(figure.picture).iter("title")]

        assert len(names) == 54 == len(titles)
        assert all(title.startswith(f"{name}: ") for name, title in zip(names, titles, strict=True))


def test_batches_do_not_share_an_axis() -> None:
    captions = [figure.caption for figure in latency.overview(sample()) if figure]

    assert [caption.partition(".")[0].partition(":")[0] for caption in captions] == [
        "Latency on cpu at batch 1",
        "Ratio of medians on cpu at batch 1",
        "Latency on cpu at batch 8",
        "Ratio of medians on cpu at batch 8",
    ]


def test_a_distribution_goes_through_its_quantiles() -> None:
    times = [float(i) for i in range(1, 1002)]

    assert latency.percentile(times, 0.5) == 501
    assert latency.percentile(times, 0.99) == pytest.approx(991)
    assert latency.percentile([3.0], 0.99) == 3.0


def test_the_slowest_layers_are_drawn_and_the_roof_has_a_knee() -> None:
    data = sample(profile=profile2())
    time, roof = nodes.time_figure(data), nodes.roofline(data)

    assert time is not None and roof is not None
    assert "the 40 slowest of 55 layers" in time.caption
    line = next(ElementTree.fromstring(roof.picture).iter("polyline")).attrib["points"]
    assert len(line.split()) == 2  # its sample in the legend
    lines = [node.attrib["points"].split() for node in ElementTree.fromstring(roof.picture).iter("polyline")]
    (_, (start, knee, end)) = lines
    assert float(start.split(",")[1]) > float(knee.split(",")[1]) == float(end.split(",")[1])
