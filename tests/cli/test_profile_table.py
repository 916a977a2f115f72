"""The table of `ntksap profile` on a terminal: what stands in it, and that no row is wider than the terminal."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from ntksap_export.cli.profile_table import Screen, latency_table, screen
from ntksap_export.pipeline import latency_row
from ntksap_export.pipeline.cells import COLUMNS

from ..pipeline.test_compare_profiles import cell

WIDE = Screen(120, True)
RATIO = {"baseline": "dense", "precision": "fp32", "value": 0.5, "low": 0.48, "high": 0.52}


def rows(*cells: dict[str, Any]) -> list[dict[str, Any]]:
    return [latency_row({"noise": "steady", **one}) for one in cells]


PAIR = (cell(p50=2.0, half=0.01, ratio=RATIO), cell("dense", p50=4.0))


def test_a_row_says_all_of_a_cell() -> None:
    head, title, sparse, dense = latency_table(rows(*PAIR), on=WIDE)

    assert "onnxruntime on cpu, batch 1, 2 threads" == title
    assert [
        "p50",
        "ms",
        "±",
        "p99",
        "ms",
        "of",
        "dense",
        "95",
        "%",
        "images/s",
        "file",
        "MB",
        "peak",
        "MB",
    ] == head.split()
    assert ["2.000", "0.020", "3.000", "0.50x", "0.48", "to", "0.52", "500.0", "1.00", "100"] == sparse.split()[2:]
    assert ["dense", "4.000"] == [word for word in dense.split() if word in ("dense", "4.000")]


def test_bars_are_as_long_as_medians_within_a_setting() -> None:
    other = cell("dense", p50=400.0, batch=8)

    lines = latency_table(rows(*PAIR, other), on=WIDE)

    lengths = [line.count("█") for line in lines if "█" in line]
    assert [lengths[1] // 2, lengths[1]] == lengths[:2]
    assert lengths[1] == lengths[2]
    assert sum(line.startswith("onnxruntime on cpu") for line in lines) == 2


def test_without_unicode_there_is_ascii_alone() -> None:
    lines = latency_table(rows(*PAIR), on=Screen(100, False))

    assert "".join(lines).isascii()
    assert any("####" in line for line in lines)


@pytest.mark.parametrize("width", [44, 60, 80, 100, 140])
@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("name", ["sparse", "a/very/long/name/of/a/target/that/nobody/can/read"])
def test_no_row_is_wider_than_the_terminal(width: int, unicode: bool, name: str) -> None:
    cells = (cell(name, p50=12345.6, ratio=RATIO, noise="noisy: all"), cell("dense", p50=0.001, precision="int8"))

    lines = latency_table(rows(*cells), on=Screen(width, unicode))

    assert all(len(line) <= width for line in lines[:4])
    assert "p50 ms" in lines[0]


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    narrow, usual, wide = (latency_table(rows(*PAIR), on=Screen(width, True))[0] for width in (44, 80, 120))

    assert ["p50", "ms", "of", "dense"] == narrow.split()
    assert "p99" in usual
    assert "peak" not in usual
    assert "peak" in wide


def test_marks_have_their_words_below() -> None:
    noisy = cell(noise="noisy: the CPU was throttled (heat)")
    few = cell("dense", noise="steady, but p99 rests on 12 runs")

    lines = latency_table(rows(noisy, few), on=WIDE)

    assert lines[2].endswith(" ~")
    assert lines[3].endswith(" ?")
    assert ["~ noisy: the CPU was throttled (heat)", "? steady, but p99 rests on 12 runs"] == lines[4:]


def test_a_noisy_cell_of_few_runs_has_both_marks() -> None:
    both = cell(noise="noisy: the CPU was throttled (heat); p99 rests on 12 runs")

    lines = latency_table(rows(both), on=WIDE)

    assert lines[2].endswith(" ~?")
    assert ["~ noisy: the CPU was throttled (heat); p99 rests on 12 runs", "? p99 rests on 12 runs"] == lines[3:]


def test_skipped_cells_share_a_line_per_reason() -> None:
    gone = {"status": "skipped", "backend": "openvino", "reason": "openvino is not installed"}
    large = {"status": "skipped", "reason": "out of memory", "batch": 512}

    lines = latency_table(
        rows(PAIR[1], *({**cell(name), **gone, "batch": None, "threads": None} for name in ("sparse", "dense")))
        + rows({**cell(), **large}),
        pruned="slim",
        on=WIDE,
    )

    assert [
        "openvino on cpu, slim, dense: skipped, openvino is not installed",
        "onnxruntime on cpu, batch 512, 2 threads, slim: skipped, out of memory",
    ] == lines[-2:]


def test_nothing_measured_is_only_reasons() -> None:
    lines = latency_table(
        rows({**cell(), "status": "skipped", "reason": "no", "batch": None, "threads": None}), on=WIDE
    )

    assert ["onnxruntime on cpu, sparse: skipped, no"] == lines


def test_a_cell_of_an_earlier_version_has_blanks() -> None:
    old = cell()
    for key in ("median_ci_ms", "streams", "file_bytes"):
        del old[key]

    head, _, row = latency_table(rows(old), on=WIDE)

    assert "±" not in head
    assert "file" not in head
    assert "2.000" in row


def test_what_a_server_served_stands_below_its_row() -> None:
    rates = [{"rate": 100.0, "p50_ms": 2.5, "p99_ms": 9.0, "served_per_s": 99.5}]

    lines = latency_table(rows(cell(server=rates, max_rate=321.0)), on=WIDE)

    assert "100/s offered: p50 2.500 ms, p99 9.000 ms, 99.5/s served" == lines[3].strip()
    assert "the limit holds up to 321.0/s" == lines[4].strip()


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (321.0, "the limit holds up to 321.0/s (time is up)"),
        (None, "no rate was found that holds the limit (time is up)"),
    ],
)
def test_a_search_for_a_rate_says_why_it_ended(rate: float | None, said: str) -> None:
    search = {"limit_ms": 20.0, "ended": "time is up", "trials": []}

    lines = latency_table(rows(cell(server=[], max_rate=rate, max_rate_search=search)), on=WIDE)

    assert f"      {said}" == lines[3]


def test_streams_and_precisions_are_named() -> None:
    lines = latency_table(rows(cell(streams=2, precision="int8", threads=1)), on=WIDE)

    assert "onnxruntime on cpu, batch 1, 1 thread, 2 streams" == lines[1]
    assert lines[2].startswith("  sparse int8 ")


@pytest.mark.parametrize(
    ("encoding", "quiet", "expected"), [("utf-8", False, True), ("utf-8", True, False), ("ascii", False, False)]
)
def test_a_pipe_that_wants_quiet_gets_ascii(
    monkeypatch: pytest.MonkeyPatch, encoding: str, quiet: bool, expected: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.delenv("COLUMNS", raising=False)

    assert Screen(120, expected) == screen(quiet)


def test_columns_of_the_csv_keep_their_names() -> None:
    assert [
        "variant", "precision", "backend", "device", "batch", "threads", "streams", "status", "reason",
        "p50_ms", "ci_low_ms", "ci_high_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", "iqr_ms",
        "baseline", "ratio", "ratio_low", "ratio_high", "throughput_images_per_s", "max_rate_images_per_s",
        "runs", "warmup_runs", "slices", "noise", "file_bytes", "load_delta_bytes", "run_peak_rss_bytes",
        "run_peak_delta_bytes", "peak_cuda_allocated_bytes",
    ] == list(COLUMNS)[:34]  # fmt: skip
