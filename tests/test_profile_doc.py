"""docs/profile.md: its commands are run on a small run directory, with what they measure made up."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.pipeline import profiling
from ntksap_export.pipeline.cells import latency_row
from ntksap_export.pipeline.conditions import METRICS
from ntksap_export.profiling.cells import Variant
from ntksap_export.profiling.settings import Settings

from .pipeline.test_compare_profiles import cell

DOC = (Path(__file__).parents[1] / "docs" / "profile.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", DOC, flags=re.DOTALL) for line in block.splitlines() if line
]


@pytest.fixture
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def profile(variants: Sequence[Variant], settings: Settings, **_: object) -> list[dict[str, Any]]:
        return [
            cell(variant.name, precision=variant.precision, backend=backend, batch=batch, threads=threads)
            for backend in settings.backends
            for batch in settings.batches
            for threads in settings.threads
            for variant in variants
        ]

    monkeypatch.setattr(profiling, "profile", profile)
    monkeypatch.setattr(profiling, "per_layer", lambda *_: {"machine": {}, "layers": []})


@pytest.mark.usefixtures("_made_up")
def test_its_commands_run_in_the_order_they_stand(
    ntksap: Callable[..., tuple[int, str, str]], finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.move(finished_run, tmp_path / "out" / "mine")

    for command in COMMANDS:
        code, out, err = ntksap(*shlex.split(command, comments=True)[1:])

        assert 0 == code, f"{command}: {err}"
        assert out
    assert out.startswith("passed: p50 > 1.05 in 0 of ")


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 9


def test_it_names_every_metric_and_key_of_a_cell() -> None:
    words = set(re.findall(r"[a-z_0-9]+", DOC))

    assert set(METRICS) <= words
    assert set(cell()) <= words
    assert {"file_bytes", "load_delta_bytes", "run_peak_rss_bytes"} <= words & latency_row(cell()).keys()
