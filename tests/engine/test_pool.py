"""The engine's own threads: every part of a job done once, on any number, after a fork, where memory is short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ntksap_export.engine.library import NativePlan, available
from ntksap_export.errors import UnavailableError
from tests.engine.raw_plans import TINY, TINY_INPUT, every_kind
from tests.support.native import BUILD, needs_compiler

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(not available(), reason="the engine is not built")


def stress(program: Path, jobs: int, sanitize: str = "") -> str:
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", f"-I{BUILD.NATIVE}"]
    flags += [f"-fsanitize={sanitize}"] if sanitize else []
    sources = [
        str(ROOT / "tests" / "engine" / "pool_stress.cpp"),
        str(BUILD.NATIVE / "pool.cpp"),
        str(BUILD.NATIVE / "crew.cpp"),
    ]
    subprocess.run([*BUILD.find_compiler(), *flags, *sources, "-o", str(program)], check=True)
    return subprocess.run([str(program), str(jobs)], check=True, capture_output=True, text=True).stdout


def parts(jobs: int) -> int:
    return 4 * sum(number * 7 % 41 for number in range(jobs))


@needs_compiler
def test_every_part_of_every_job_is_done_once(tmp_path: Path) -> None:
    assert f"{parts(2000)}\n" == stress(tmp_path / "stress", 2000)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitize", ["thread", "address,undefined"])
def test_the_sanitizers_find_nothing(sanitize: str, tmp_path: Path) -> None:
    assert f"{parts(20000)}\n" == stress(tmp_path / "stress", 20000, sanitize)


@needs_library
def test_one_plan_runs_on_any_number_of_threads_in_turn() -> None:
    data, _ = every_kind()
    images = np.random.default_rng(0).standard_normal((3, 3, 6, 6)).astype(np.float32)
    plan = NativePlan(data)
    expected = plan.run([images])[0]

    for threads in (2, 1, 4, 3, 0, 2):
        np.testing.assert_allclose(expected, plan.run([images], threads=threads)[0], atol=1e-5)


@needs_library
def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(UnavailableError, match=r"^the sparse engine failed: the number of threads is negative$"):
        NativePlan(TINY).run([TINY_INPUT], threads=-1)


# In a process of its own: Python warns of threads that a fork leaves behind, which is what this is about.
FORK = """
import os, sys
import numpy as np
from ntksap_export.engine.library import NativePlan
from tests.engine.raw_plans import TINY, TINY_INPUT, TINY_OUTPUT
plan = NativePlan(TINY)
right = lambda: np.allclose(TINY_OUTPUT, plan.run([TINY_INPUT], threads=3)[0])
before = right()
child = os.fork()
if child == 0:
    ok = right() and right()
    plan.close()
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if before and right() and status == 0 else 1)
"""


@needs_library
def test_a_forked_child_gets_a_pool_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], cwd=ROOT, timeout=120, check=False)

    assert 0 == done.returncode


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space")
@needs_library
@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_memory_that_is_not_there_is_told_and_the_plan_goes_on(threads: str) -> None:
    # glibc gives memory back at once, so that a limit is felt
    glibc = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-m", "tests.engine.short_of_memory", threads]

    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | glibc, timeout=300, check=False, capture_output=True, text=True
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert int(done.stdout) >= 1
