"""`ntksap profile --compare` and the flags around it, as its user sees them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.pipeline import profiling
from ntksap_export.pipeline.cells import COLUMNS

from ..pipeline.test_compare_profiles import cell, write
from ..profiling.profiling_cases import write_graph
from .test_cli import refused

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The sparse network got 20 % slower."""
    return write(tmp_path / "old.json", cell(), cell("dense")), write(
        tmp_path / "new.json", cell(p50=2.4), cell("dense")
    )


@pytest.fixture
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variant takes 2 ms."""

    def profile(variants: Sequence[Any], *_: object, **__: object) -> list[dict[str, Any]]:
        return [
            {**cell(variant.name), "precision": variant.precision, "times_ms": [2.0], "slice_of": [0]}
            for variant in variants
        ]

    monkeypatch.setattr(profiling, "profile", profile)


def test_a_limit_that_is_not_met_has_its_exit_code(ntksap: Call, pair: tuple[Path, Path]) -> None:
    code, out, err = ntksap("profile", "--compare", *pair, "--fail-if", "p50 > 1.05")

    assert 9 == code
    assert 1 == len(out.splitlines())
    assert out.startswith("failed: p50 > 1.05 in 1 of 2 cells, worst 1.200")
    assert "new / old" in err


@pytest.mark.parametrize("flag", ["--out", "--csv"])
def test_a_directory_in_place_of_a_file_is_refused_before_anything_is_measured(
    ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    def measured(*_: object, **__: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(profiling, "profile", measured)

    result = ntksap("profile", write_graph(tmp_path / "m.onnx"), flag, tmp_path)

    refused(result, 2, "is a directory; --out and --csv name a file")


def test_a_limit_that_is_met_is_said_in_one_line(ntksap: Call, pair: tuple[Path, Path]) -> None:
    flags = ("--fail-if", "p50 > 1.3, p99 > 2", "--fail-if", "file_size > 1")

    code, out, err = ntksap("profile", "--compare", *pair, *flags, "--quiet")

    assert (0, "") == (code, err)
    assert 1 == len(out.splitlines())
    assert out.startswith("passed: p50 > 1.3 in 0 of 2 cells")


def test_a_comparison_as_json(ntksap: Call, pair: tuple[Path, Path]) -> None:
    code, out, err = ntksap("profile", "--compare", *pair, "--fail-if", "p50 > 1.05", "--json")

    told = json.loads(out)
    assert (9, "") == (code, err)
    assert (False, 2, "p50 > 1.05") == (told["passed"], len(told["cells"]), told["conditions"][0]["condition"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet20", "--compare", "a", "b"), "--compare measures nothing"),
        (("--compare", "a", "b", "--batch", "1"), "--compare measures nothing"),
        (("--compare", "a", "b", "--csv", "c"), "--compare measures nothing"),
        (("resnet20", "--fail-if", "p50 > 1"), "belong to --compare"),
        (("resnet20", "--strict"), "belong to --compare"),
        ((), "name at least one TARGET"),
        (("resnet20", "--backend", "nothing"), "profile-backend"),
        (("resnet2",), "resnet20"),
    ],
)
def test_flags_that_do_not_go_together(ntksap: Call, words: tuple[str, ...], said: str) -> None:
    refused(ntksap("profile", *words), 2, said)


def test_files_that_are_no_profile(ntksap: Call, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "broken.json").write_text("{")

    refused(ntksap("profile", "--compare", pair[0], tmp_path / "broken.json"), 4, "broken.json", "is not JSON")
    refused(ntksap("profile", "--compare", pair[0], tmp_path / "none.json"), 4, "none.json")


def test_the_only_backend_that_is_not_here(ntksap: Call, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntksap_export.runtime.backends.find_spec", lambda _: None)

    for target in (finished_run, finished_run / "model.onnx"):
        refused(ntksap("profile", target, "--backend", "openvino"), 7, "pip install 'ntksap-export[openvino]'")


@pytest.mark.usefixtures("_measured")
def test_cells_as_csv_and_json_have_no_raw_times(ntksap: Call, tmp_path: Path) -> None:
    graph, table = write_graph(tmp_path / "net.onnx"), tmp_path / "cells.csv"

    code, out, _ = ntksap("profile", graph, "--csv", table, "--out", tmp_path / "all.json", "--json")

    rows = list(csv.DictReader(table.read_text().splitlines()))
    told = json.loads(out)
    assert 0 == code
    assert list(COLUMNS) == table.read_text().splitlines()[0].split(",")
    assert [("sparse", "2.0", "1.96"), ("dense", "2.0", "1.96")] == [
        (row["variant"], row["p50_ms"], row["ci_low_ms"]) for row in rows
    ]
    assert [2.0] == json.loads((tmp_path / "all.json").read_text())["cells"][0]["times_ms"]
    assert not {"times_ms", "slice_of"} & told["cells"][0].keys()
    assert told["command"].startswith("ntksap profile ")


@pytest.mark.usefixtures("_measured")
def test_a_run_directory_keeps_its_profile_and_gives_a_copy(ntksap: Call, finished_run: Path, tmp_path: Path) -> None:
    code, out, err = ntksap("profile", finished_run, "--out", tmp_path / "copy.json", "--batch", 1)

    assert 0 == code, err
    assert (finished_run / "profile.json").read_text() == (tmp_path / "copy.json").read_text()
    assert ["sparse", "dense"] == [line.split()[0] for line in out.splitlines() if "2.000" in line]
    refused(ntksap("profile", finished_run, "--image-size", 16), 2, "knows the size")
