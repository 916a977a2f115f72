"""The engine's kernels one by one, in C++ against plain loops: what no plan can choose, because the clock does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.native import build_program, needs_compiler

NATIVE = Path(__file__).parent / "native"
ROUNDS = {"aux_check": 300, "conv_check": 60}
pytestmark = needs_compiler


def said(program: Path, seed: int, rounds: int) -> str:
    done = subprocess.run([str(program), str(seed), str(rounds)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"exit code {done.returncode}: {done.stdout}{done.stderr[-3000:]}")
    return done.stdout


@pytest.mark.parametrize("name", ROUNDS)
def test_kernels_give_what_plain_loops_give(name: str, tmp_path: Path) -> None:
    program = build_program(tmp_path / name, NATIVE / f"{name}.cpp")

    assert said(program, 1, ROUNDS[name]).startswith("portable ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUNDS)
def test_kernels_read_and_write_their_own_only(name: str, tmp_path: Path) -> None:
    program = build_program(tmp_path / name, NATIVE / f"{name}.cpp", sanitize="address,undefined")

    assert said(program, 1000, ROUNDS[name] // 4).endswith("agree\n")
