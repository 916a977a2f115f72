"""The latency table: what is timed, how often, and what is made of it. Times are made up, but for one test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ntksap_export import models
from ntksap_export.errors import ConfigError, UnavailableError
from ntksap_export.graph import Graph
from ntksap_export.graph.one_layer import LayerShape, layer_graph
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.profiling.latency_table import MachineMeter, _step_of, grid
from ntksap_export.profiling.many import Effort, time_graphs, timing_of
from ntksap_export.profiling.timings import Timings, cache_file, cached, this_machine
from ntksap_export.pruning import ChannelPlan
from ntksap_export.pruning.channel_groups import channel_groups
from ntksap_export.pruning.channel_units import plan_of
from ntksap_export.pruning.latency import Widths
from ntksap_export.timing import Timing

SETTINGS = LatencyBudget(1.0, threads=1).settings()
SHAPE = (3, 16, 16)
ROWS = LayerShape((), (), (), (), 1, (1, 1))
QUICK = Effort((2, 2), 0.001, 2, 0.001, 1.0)


class Counter:
    """Stands for the measuring process: a graph takes a microsecond for each weight that it has, and one more."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []

    def __call__(self, graphs: Sequence[Graph], settings: Mapping[str, object], effort: Effort) -> list[Timing]:
        self.graphs += graphs
        sizes = [sum(values.size for _, values in graph.weights()) for graph in graphs]
        return [Timing((size + 1) / 1000, size / 1000, (size + 2) / 1000, 10) for size in sizes]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def meter(
    counter: Counter, file: Path | None = None, timings: Timings | None = None, foreign: bool = False
) -> MachineMeter:
    model = models.build("resnet20", 10).eval()

    def export(plan: ChannelPlan) -> Graph:
        weights = sum(parameter.numel() for parameter in plan.apply(model).parameters())
        return layer_graph(ROWS, weights, 1, batch=1)

    return MachineMeter(model, SHAPE, export, timings or this_machine(SETTINGS), file, foreign, time_graphs=counter)


def all_widths(model: object) -> dict[str, tuple[Widths, Widths]]:
    """Every side may go down to 8, but for the image's and the logits'."""
    widths = {}
    for name, parameter in model.named_parameters():  # type: ignore[attr-defined]
        if parameter.ndim > 1:
            most = (parameter.shape[0], parameter.shape[1])
            widths[name] = ((min(8, most[0]), min(8, most[1])), most)
    widths["fc.weight"] = ((10, 8), (10, 64))
    return widths


def test_a_layer_costs_what_it_takes_without_what_is_around_it() -> None:
    counter = Counter()
    made = meter(counter)

    table = made.table(all_widths(made.model))

    assert table.price("layer2.1.conv1.weight", 32, 32) == pytest.approx(32 * 32 * 9 / 1000)
    assert table.price("layer2.1.conv1.weight", 8, 16) == pytest.approx(8 * 16 * 9 / 1000)
    assert table.price("fc.weight", 10, 64) == pytest.approx(0.641)
    assert table.layers["conv1.weight"].ins == (3,)
    assert table.layers["layer3.1.conv1.weight"].outs == (8, 16, 32, 64)


def test_layers_that_are_alike_are_timed_once() -> None:
    counter = Counter()
    made = meter(counter)

    made.table(all_widths(made.model))

    timed = [graph.to_bytes() for graph in counter.graphs]
    # Equal graphs at two sizes of image differ in their input, so that all of them differ.
    assert len(timed) == len(set(timed)) == len(made.timings.known)
    assert len(timed) < 120


def test_a_second_table_comes_from_the_cache(tmp_path: Path) -> None:
    first, second = Counter(), Counter()
    made = meter(first)
    table = made.table(all_widths(made.model))
    made.whole(ChannelPlan())

    again = meter(second)
    same = again.table(all_widths(made.model))

    assert second.graphs == []
    assert table == same
    again.whole(ChannelPlan())
    assert len(second.graphs) == 1  # networks are timed in each run


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "timings": {"a": [1]}}'])
def test_a_broken_cache_is_as_none(content: str) -> None:
    here = this_machine(SETTINGS)
    cache_file(here).parent.mkdir(parents=True)
    cache_file(here).write_text(content)

    counter = Counter()
    made = meter(counter)
    made.table(all_widths(made.model))

    assert counter.graphs
    assert cached(here).known == made.timings.known


def test_a_cache_that_cannot_be_written_is_gone_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    made = meter(Counter())

    assert made.table(all_widths(made.model)).layers


def test_other_threads_have_timings_of_their_own() -> None:
    one, two = (this_machine({**SETTINGS, "threads": threads}) for threads in (1, 2))

    assert cache_file(one) != cache_file(two)
    assert not one.alike(two)


def test_networks_are_known_by_their_widths() -> None:
    counter = Counter()
    made = meter(counter)
    groups = channel_groups(made.model, SHAPE)
    free = [group for group in groups if group.reason is None]
    low, high = (plan_of(free, [part(group.units) for group in free]) for part in (_first_half, _last_half))

    assert made.whole(low) == made.whole(high)
    assert made.whole(low) != made.whole(ChannelPlan())
    assert len(counter.graphs) == 2


def _first_half(units: int) -> list[int]:
    return list(range(units // 2))


def _last_half(units: int) -> list[int]:
    return list(range(units - units // 2, units))


def test_the_file_has_all_that_was_timed_and_nothing_is_timed_with_it(tmp_path: Path) -> None:
    file = tmp_path / "latency_table.json"
    made = meter(Counter(), file)
    table, whole = made.table(all_widths(made.model)), made.whole(ChannelPlan())

    counter = Counter()
    again = meter(counter, None, Timings.load(file), foreign=True)

    assert table == again.table(all_widths(made.model))
    assert whole == again.whole(ChannelPlan())
    assert counter.graphs == []


def test_a_table_of_another_machine_is_not_added_to(tmp_path: Path) -> None:
    file = tmp_path / "latency_table.json"
    made = meter(Counter(), file)
    made.table(all_widths(made.model))
    document = json.loads(file.read_text())
    document["machine"]["cpu"] = "another"
    file.write_text(json.dumps(document))

    other = meter(Counter(), None, Timings.load(file), foreign=True)

    with pytest.raises(ConfigError, match=r"made on another machine \(another\) and has no 'network "):
        other.whole(ChannelPlan())


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), ("{", "is none: Expecting"), ('{"schema": 2}', "is none: it was not")],
)
def test_a_file_that_is_no_table_says_so(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "table.json").write_text(content)

    with pytest.raises(ConfigError, match=said):
        Timings.load(tmp_path / "table.json")


@pytest.mark.parametrize(
    ("least", "most", "step", "expected"),
    [
        (3, 3, 1, (3,)),
        (8, 64, 1, (8, 16, 32, 64)),
        (8, 64, 16, (8, 16, 32, 64)),
        (8, 2048, 16, (8, 512, 1024, 2048)),
        (8, 24, 16, (8, 16, 24)),
        (1, 4, 16, (1, 4)),
        (10, 10, 16, (10,)),
    ],
)
def test_widths_that_are_timed(least: int, most: int, step: int, expected: tuple[int, ...]) -> None:
    assert expected == grid(least, most, step)


@pytest.mark.parametrize(
    ("ms", "expected"),
    [((2.0, 3.0, 3.5, 4.0), 1), ((2.0, 3.0, 4.0, 4.0), 16), ((2.0, 4.0, 4.0, 4.0), 32), ((2.0, 3.02, 3.9, 4.01), 16)],
)
def test_steps_of_the_hardware_are_seen_in_the_times(ms: tuple[float, ...], expected: int) -> None:
    assert expected == _step_of(ms)


def test_graphs_are_timed_in_a_process_of_their_own() -> None:
    shape = LayerShape((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, (8, 8))
    graphs = [layer_graph(shape, 8, 8, batch=2), layer_graph(shape, 16, 8, batch=2)]

    timings = time_graphs(graphs, {**SETTINGS, "batch": 2}, QUICK)

    assert len(timings) == 2
    assert all(0 < timing.low_ms <= timing.ms <= timing.high_ms and timing.runs >= 4 for timing in timings)


def test_a_graph_that_does_not_run_is_an_error_of_one_line() -> None:
    graph = layer_graph(LayerShape((9, 9), (1, 1), (1, 1), (0, 0, 0, 0), 1, (4, 4)), 8, 8, batch=1)

    with pytest.raises(UnavailableError) as caught:
        time_graphs([graph], SETTINGS, QUICK)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_timing_is_the_median_turn_and_what_lies_between_turns() -> None:
    turns = [[5.0, 1.0, 1.1], [2.0, 2.0], [3.0], [4.0], [5.0], [6.0]]

    assert Timing(3.5, 1.1, 6.0, 9) == timing_of(turns)
