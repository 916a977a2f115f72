from __future__ import annotations

from pathlib import Path

import pytest

from ntksap_export.profiling import groups
from ntksap_export.profiling.cells import Cell, Variant, plan_cells
from ntksap_export.profiling.groups import baseline_of, free_bytes, side_by_side
from ntksap_export.profiling.settings import Settings

MB = 10**6


def _cells(*names: str, backends: tuple[str, ...] = ("onnxruntime",)) -> list[Cell]:
    variants = [Variant(name, Path(f"{name}.onnx"), {"name": "resnet20"}, None, None) for name in names]
    return plan_cells(variants, Settings(backends, ("cpu",), (1,), (1,)))


def _names(found: list[list[Cell]]) -> list[list[str]]:
    return [[cell.variant.name for cell in group] for group in found]


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (10_000 * MB, [["dense", "a", "b", "c"]]),
        (800 * MB, [["dense", "a", "b"], ["dense", "c"]]),
        (1, [["dense", "a"], ["dense", "b"], ["dense", "c"]]),
    ],
)
def test_groups_fit_in_memory_and_have_the_baseline(free: float, expected: list[list[str]]) -> None:
    assert expected == _names(side_by_side(_cells("a", "b", "c", "dense"), "dense", free))


def test_each_backend_has_its_own_baseline_and_no_more_than_32_stand_there() -> None:
    two = _cells("a", "dense", backends=("onnxruntime", "torch"))
    many = _cells(*map(str, range(40)), "dense")

    assert [("torch", "dense"), ("torch", "a")] == [
        (cell.backend, cell.variant.name) for cell in side_by_side(two, "dense", 1)[1]
    ]
    assert [32, 10] == [len(group) for group in side_by_side(many, "dense", 1e15)]
    assert [] == side_by_side([], "dense", 1)


def test_a_baseline_has_none_and_an_absent_one_is_none() -> None:
    a, dense = _cells("a", "dense")

    assert dense is baseline_of(a, [a, dense], "dense")
    assert baseline_of(dense, [a, dense], "dense") is None
    assert baseline_of(a, [a], "dense") is None


def test_a_larger_batch_and_file_are_reckoned_with(tmp_path: Path) -> None:
    graph = tmp_path / "a.onnx"
    graph.write_bytes(b"0" * MB)
    settings = Settings(("onnxruntime", "torch"), ("cpu",), (1, 8), (1,))
    cells = plan_cells([Variant("a", graph, {"name": "resnet20"}, None, (3, 100, 100))], settings)

    one, eight, torch_one, _ = (cell.estimated_bytes for cell in cells)
    assert 200 * MB + 3 * MB + 40 * 4 * 30_000 == one
    assert 7 * 40 * 4 * 30_000 == eight - one
    assert 300 * MB == torch_one - one
    assert 8 * 4 * 30_000 == cells[1].input_bytes


@pytest.mark.parametrize(("limit", "used", "free"), [("1000", "400", 600), ("10", "400", 0), ("max", "400", None)])
def test_the_limit_of_a_container_counts(
    limit: str, used: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    monkeypatch.setattr(groups, "_CGROUP", tmp_path)

    assert free == free_bytes() if free is not None else free_bytes() > MB
