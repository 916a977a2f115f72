"""The stage `report` and the comparison of runs: which files there are, what they hold, what is refused."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.config import STAGE_KEYS, RunConfig, make_config
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.pipeline import report_runs, resolve, run_road, run_stage, summary
from ntksap_export.pipeline.reporting import command_of
from ntksap_export.pipeline.run_dir import fingerprint

from ..conftest import small_config

Ntksap = Callable[..., tuple[int, str, str]]
FORMS = {"report.html", "report.md", "report.json", "README.md"}


def _record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / ".ntksap" / "state.json").read_text())["report"])


def test_the_stage_writes_every_form_and_every_table(finished_run: Path) -> None:
    files = set(_record(finished_run)["files"])
    tables = {f"report/{path.name}" for path in (finished_run / "report").iterdir()}

    assert FORMS | tables == files
    assert {"report/latency.csv", "report/layers.csv", "report/training.csv", "report/sizes.csv"} <= tables


def test_the_forms_agree_with_each_other_and_with_the_stages(finished_run: Path) -> None:
    told = json.loads((finished_run / "report.json").read_text())
    final = json.loads((finished_run / "metrics.json").read_text())["final"]["val_accuracy"]
    with (finished_run / "report" / "latency.csv").open() as handle:
        rows = list(csv.DictReader(handle))

    assert final == told["tables"]["training"][-1]["val_accuracy"]
    assert [row["p50_ms"] for row in told["tables"]["latency"]] == [float(row["p50_ms"]) for row in rows]
    text, markup = ((finished_run / f"report.{form}").read_text() for form in ("md", "html"))
    for line in told["summary"]:
        assert line["text"] in text
        assert line["text"] in markup.replace("\N{NO-BREAK SPACE}", " ").replace("&#39;", "'")


def test_a_second_report_gives_the_same_bytes(finished_run: Path) -> None:
    names = [name for name in _record(finished_run)["files"] if name != "README.md"]
    run_stage("report", finished_run, {}, command="ntksap prune-train-export resnet20")
    first = {name: (finished_run / name).read_bytes() for name in names}
    run_stage("report", finished_run, {}, command="ntksap prune-train-export resnet20")

    assert first == {name: (finished_run / name).read_bytes() for name in names}


def test_a_table_that_is_no_more_leaves_no_file(finished_run: Path) -> None:
    own = finished_run / "report" / "mine.csv"
    old = finished_run / "report" / "server.csv"
    for path in (own, old):
        path.write_text("x\n")
    run_stage("report", finished_run, {})

    assert (True, False) == (own.exists(), old.exists())


def test_a_run_that_was_only_pruned_has_a_report(tmp_path: Path) -> None:
    run_road(small_config(), tmp_path / "out", stages=("prune",))
    run_stage("report", tmp_path / "out", {})
    text = (tmp_path / "out" / "report.md").read_text()

    assert "Accuracy was not measured." in text
    assert "Not run: there is no training in this run." in text
    assert {path.name for path in (tmp_path / "out" / "report").iterdir()} == {"layers.csv", "sizes.csv"}


def test_other_files_of_a_run_do_not_outlive_it(finished_run: Path) -> None:
    run_stage("train", finished_run, {"epochs": 1}, overwrite=True)

    assert not any((finished_run / name).exists() for name in FORMS)
    assert not list((finished_run / "report").glob("*.csv"))
    assert "report.html" not in summary(finished_run)["files"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sparsity": 0.8, "nesterov": False, "keep_dense": ("fc",), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)},
        {"pattern": "2:4", "method": "snip", "augment": "none", "profile_batch": (1, 8), "profile_per_layer": True},
        {"pattern": "channel", "flops": 0.5, "profile_percentiles": (50, 99.9)},
    ],
)
def test_the_command_to_repeat_gives_the_same_settings(changes: dict[str, Any], tmp_path: Path, ntksap: Ntksap) -> None:
    config, _ = resolve(small_config(**changes))
    words = shlex.split(command_of(config))
    code, out, err = ntksap(*words[1:], "--dry-run", "--json", "--out", tmp_path / "new")

    assert (["ntksap", "prune-train-export", "resnet20"], 0, "") == (words[:3], code, err)
    told = {key.replace("-", "_"): value for key, value in json.loads(out)["config"].items()}
    again = make_config({key: value for key, value in told.items() if key in RunConfig.model_fields})
    for stage in STAGE_KEYS:
        assert fingerprint(stage, config) == fingerprint(stage, again)


def test_a_report_without_a_command_says_how_to_repeat_it(finished_run: Path) -> None:
    run_stage("report", finished_run, {})
    text = (finished_run / "report.md").read_text()

    assert "ntksap prune-train-export resnet20 " in text
    assert "--epochs 2" in text and "--image-size 16" in text


@pytest.fixture
def two_runs(finished_run: Path, tmp_path: Path) -> tuple[Path, Path]:
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["final"]["val_accuracy"] = 0.123
    (other / "metrics.json").write_text(json.dumps(metrics))
    return finished_run, other


def test_two_runs_stand_on_one_page(two_runs: tuple[Path, Path], tmp_path: Path, ntksap: Ntksap) -> None:
    code, out, _ = ntksap("report", *two_runs, "--out", tmp_path / "both")
    told = json.loads((tmp_path / "both" / "comparison.json").read_text())

    assert code == 0
    assert f"wrote {tmp_path / 'both' / 'comparison.html'}" in out.splitlines()
    assert ["finished", "other"] == [row["run"] for row in told["tables"]["runs"]]
    assert 0.123 == told["tables"]["runs"][1]["accuracy"]
    assert {"comparison.html", "comparison.md", "comparison.json", "tables"} == {
        path.name for path in (tmp_path / "both").iterdir()
    }
    with (tmp_path / "both" / "tables" / "runs.csv").open() as handle:
        assert ["finished", "other"] == [row["run"] for row in csv.DictReader(handle)]


def test_a_comparison_as_json_names_its_files(two_runs: tuple[Path, Path], tmp_path: Path, ntksap: Ntksap) -> None:
    code, out, _ = ntksap("report", *two_runs, "--out", tmp_path / "both", "--json")

    assert code == 0
    assert str(tmp_path / "both" / "comparison.html") in json.loads(out)["files"]


def test_no_path_of_the_machine_stands_on_the_page(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    written = report_runs(two_runs, tmp_path / "both")

    for path in written:
        assert str(tmp_path) not in path.read_text()


def test_runs_of_one_name_are_told_apart(finished_run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name / "run" for name in ("a", "b")]
    for path in paths:
        shutil.copytree(finished_run, path)
    report_runs(paths, tmp_path / "both")
    told = json.loads((tmp_path / "both" / "comparison.json").read_text())

    assert ["a/run", "b/run"] == [row["run"] for row in told["tables"]["runs"]]


def test_what_cannot_be_compared_is_refused(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = two_runs
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="two or more different directories"):
        report_runs([one, one], tmp_path / "both")
    with pytest.raises(RunDirectoryError, match="no such directory"):
        report_runs([one, tmp_path / "none"], tmp_path / "both")
    with pytest.raises(RunDirectoryError, match="is a run itself"):
        report_runs([one, other], other)
    with pytest.raises(RunDirectoryError, match="is a file; choose another --out"):
        report_runs([one, other], tmp_path / "file")
    (other / "mask.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="is not JSON"):
        report_runs([one, other], tmp_path / "both")

    assert not (tmp_path / "both").exists()


def test_one_run_takes_no_out(finished_run: Path, tmp_path: Path, ntksap: Ntksap) -> None:
    code, _, err = ntksap("report", finished_run, "--out", tmp_path / "x")

    assert code == ConfigError.exit_code
    assert err.startswith("error: --out is for a comparison of several runs")
