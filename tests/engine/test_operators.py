"""The engine's operators against the plain reference: each instruction set of this CPU, one and two threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ntksap_export.engine.library import NativePlan, available, describe
from ntksap_export.engine.operators import Conv, Plan, Tensor, Weights, Window
from ntksap_export.engine.plan_bytes import plan_to_bytes
from tests.engine.plan_cases import Case, Floats, convolutions, elementwise, graphs, pools, whole_planes
from tests.engine.reference import run_plan

pytestmark = pytest.mark.skipif(not available(), reason="the engine is not built")
SETS = ("avx512", "avx2", "portable")
SLOW = {HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example}


def settled(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=SLOW)


def instruction_sets() -> Sequence[str]:
    """What this CPU has, the best first."""
    with lowered("avx512"):
        best = describe()["isa"]
    return SETS[SETS.index(best) :] if best in SETS else [best]


@contextmanager
def lowered(name: str) -> Iterator[None]:
    """Plans that are made meanwhile use at most this instruction set."""
    before = os.environ.get("NTKSAP_ENGINE_ISA")
    os.environ["NTKSAP_ENGINE_ISA"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["NTKSAP_ENGINE_ISA"]
        else:
            os.environ["NTKSAP_ENGINE_ISA"] = before


def made(plan: Plan, name: str) -> NativePlan:
    with lowered(name):
        return NativePlan(plan_to_bytes(plan))


def check(case: Case) -> None:
    expected = run_plan(case.plan, case.inputs)
    for name in instruction_sets():
        native = made(case.plan, name)
        for threads in (1, 2):
            actual = native.run(case.inputs, threads=threads)
            for wanted, got in zip(expected, actual, strict=True):
                scale = max(1.0, float(np.abs(wanted).max(initial=0)))
                np.testing.assert_allclose(
                    got, wanted, rtol=0, atol=case.tolerance * scale, err_msg=f"{name}, {threads} threads"
                )


@settled(120)
@given(convolutions())
def test_a_convolution_is_the_sum_over_its_window(case: Case) -> None:
    check(case)


@settled(30)
@given(whole_planes())
def test_a_convolution_may_be_as_large_as_its_input(case: Case) -> None:
    check(case)


@settled(60)
@given(pools())
def test_a_pool_gives_the_largest_or_the_mean_of_its_window(case: Case) -> None:
    check(case)


@settled(80)
@given(elementwise())
def test_sums_products_activations_and_moves(case: Case) -> None:
    check(case)


@settled(80)
@given(graphs())
def test_operators_that_feed_each_other(case: Case) -> None:
    check(case)


def some(count: int, shapes: Sequence[Tensor], seed: int) -> list[Floats]:
    random = np.random.default_rng(seed)
    sizes = [(count, t.channels, t.height, t.width)[: t.rank] for t in shapes]
    return [random.standard_normal(size).astype(np.float32) for size in sizes]


@settled(25)
@given(graphs(), st.lists(st.sampled_from([1, 2, 7, 8, 16, 17, 25]), min_size=1, max_size=3), st.sampled_from([1, 2]))
def test_what_ran_before_leaves_nothing_behind(case: Case, batches: list[int], threads: int) -> None:
    shapes = [case.plan.tensors[number] for number in case.plan.inputs]
    native = NativePlan(plan_to_bytes(case.plan))
    before = native.run(case.inputs, threads=threads)
    for seed, batch in enumerate(batches):
        native.run([np.full_like(array, np.nan) for array in some(batch, shapes, seed)], threads=threads)

    after = native.run(case.inputs, threads=threads)

    for first, again in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, again)


@settled(40)
@given(graphs(), st.sampled_from([2, 8, 13, 16, 19]), st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_an_image_never_changes_another(case: Case, batch: int, bad: float, data: st.DataObject) -> None:
    images = some(batch, [case.plan.tensors[number] for number in case.plan.inputs], 5)
    place = data.draw(st.integers(0, batch - 1))
    others = np.arange(batch) != place
    for name in instruction_sets():
        native = made(case.plan, name)
        good = native.run(images)
        spoilt = [array.copy() for array in images]
        for array in spoilt:
            array[place] = bad

        found = native.run(spoilt)

        for first, again in zip(good, found, strict=True):
            np.testing.assert_array_equal(first[others], again[others])


@pytest.mark.parametrize("batch", [1, 9])
def test_entries_further_apart_than_a_delta_can_say(batch: int) -> None:
    """Rows of more than 65536 columns: gaps are bridged by entries of value 0."""
    shape, columns = Tensor(20, 64, 64), 20 * 64 * 64
    places = np.array([0, columns - 1, 70_000, 65_535, 65_536])
    weights = Weights(4, columns, np.array([1, 2, 3, 4, 5], np.float32), np.array([2, 1, 0, 2]), places)
    operator = Conv((0,), 1, Window(64, 64), weights)
    plan = Plan((shape, Tensor(4, rank=2)), (0,), (1,), (operator,))

    check(Case(plan, some(batch, [shape], 1)))
