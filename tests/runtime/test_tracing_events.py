from __future__ import annotations

import pytest

from ntksap_export.errors import UnavailableError
from ntksap_export.runtime.tracing import events
from ntksap_export.runtime.tracing.traced import NodeTime
from tests.runtime.tracing_cases import LOADING, call, node

PROFILE = [
    *LOADING,
    *(node("a", 110, 40, index=3), node("b", 160, 20, op="Relu", index=4), *call(100, 90)),
    *(node("a", 210, 44, index=3), node("b", 260, 10, op="Relu", index=4), *call(200, 100)),
    *(node("a", 310, 900, index=3), node("b", 1220, 12, op="Relu", index=4), *call(300, 950)),
]


def test_the_calls_are_taken_apart() -> None:
    found = events.runs(PROFILE)

    assert [run.ms for run in found] == [0.09, 0.1, 0.95]
    assert [[event["dur"] for event in run.nodes] for run in found] == [[40, 20], [44, 10], [900, 12]]


def test_a_node_takes_the_median_of_the_calls() -> None:
    actual = events.node_times(events.runs(PROFILE))

    assert actual == (NodeTime("a", "Conv", 0.044, 200, 36), NodeTime("b", "Relu", 0.012, 200, 36))


def test_a_node_that_runs_twice_in_a_call_is_one_and_two_of_one_name_are_two() -> None:
    found = events.runs([node("a", 1, 10), node("a", 20, 12), node("a", 40, 3, index=1), *call(0, 50)])

    assert [each.ms for each in events.node_times(found)] == [0.022, 0.003]


def test_a_profile_without_nodes_is_refused() -> None:
    with pytest.raises(UnavailableError, match="has no nodes; profile without --per-layer"):
        events.node_times(events.runs([*LOADING, *call(0, 10)]))


def test_the_peak_is_what_nodes_asked_for_beside_what_lay_there_before() -> None:
    (run,) = events.runs(
        [
            node("a", 1, 1, in_use=1000 + 4168, delta=1000),
            node("b", 3, 1, in_use=3000 + 4168, delta=2000),
            node("c", 5, 1, in_use=2500 + 4168, delta=500),
            *call(0, 10),
        ]
    )

    assert events.requested_bytes(run) == {"a": 1000, "b": 3000, "c": 2500}


def test_a_profile_that_says_nothing_of_memory_has_no_peak() -> None:
    (run,) = events.runs([node("a", 1, 1), *call(0, 10)])

    assert events.requested_bytes(run) == {}
