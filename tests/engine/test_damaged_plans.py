"""Damaged plans: whatever the bytes hold, the library refuses them or runs them, with the sanitizers watching too."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from ntksap_export.engine import plan_to_bytes
from ntksap_export.engine.library import NativePlan, available, library_path
from ntksap_export.engine.operators import Plan
from tests.engine.plan_strategies import plans
from tests.support.native import BUILD, build_library, needs_compiler, sanitized_environment

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(not available(), reason="the engine is not built")


def fuzz(
    library: Path, seed: int, count: int, plans: Path | None = None, environment: dict[str, str] | None = None
) -> dict[str, int]:
    more = [] if plans is None else [str(plans)]
    command = [sys.executable, "-m", "tests.engine.fuzz_plans", str(library), str(seed), str(count), *more]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"exit code {done.returncode}: {done.stderr[-3000:]}")
    answers: dict[str, int] = json.loads(done.stdout)
    return answers


@needs_library
def test_no_damage_makes_the_library_crash() -> None:
    answers = fuzz(library_path(), seed=0, count=2500)

    assert 2500 == sum(answers.values())
    assert answers["refused"] > 500
    assert answers["run"] > 500


@settings(max_examples=120, derandomize=True, database=None, deadline=None)
@given(plan=plans())
def _save(plan: Plan, folder: Path) -> None:
    data = plan_to_bytes(plan)
    (folder / f"{hashlib.sha256(data).hexdigest()}.plan").write_bytes(data)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans drawn by Hypothesis, a file each."""
    folder = tmp_path_factory.mktemp("plans")
    _save(folder=folder)
    return folder


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("sanitized") / BUILD.LIBRARY, sanitize="address,undefined")


@needs_library
def test_every_plan_that_can_be_written_is_taken(drawn: Path) -> None:
    files = sorted(drawn.iterdir())

    assert len(files) > 50
    for file in files:
        assert NativePlan(file.read_bytes()).outputs


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("isa", ["portable", "avx2", ""])
def test_no_damage_makes_the_sanitizers_speak(isa: str, sanitized: Path, drawn: Path) -> None:
    answers = fuzz(
        sanitized, seed=1, count=2000, plans=drawn, environment=sanitized_environment() | {"NTKSAP_ENGINE_ISA": isa}
    )

    assert 2000 == sum(answers.values())
    assert answers["run"] > 500
