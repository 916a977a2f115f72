"""The library from Python: where it is, what is said where it is not, and how a session gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntksap_export.engine import library
from ntksap_export.errors import CheckpointError, UnavailableError
from tests.engine.raw_plans import TINY

needs_library = pytest.mark.skipif(not library.available(), reason="the engine is not built")


class Options:
    """Stands for onnxruntime's SessionOptions."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.registered: list[str] = []

    def register_custom_ops_library(self, path: str) -> None:
        if self.error is not None:
            raise self.error
        self.registered.append(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the installed package's."""
    monkeypatch.setattr(library, "_HOME", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("note", "why"), [(None, "no C++ compiler"), ("NTKSAP_ENGINE_BUILD=0\n", "NTKSAP_ENGINE_BUILD=0")]
)
def test_without_the_library_it_is_said_why_and_what_to_do(home: Path, note: str | None, why: str) -> None:
    if note is not None:
        (home / "not_built.txt").write_text(note)

    with pytest.raises(UnavailableError) as caught:
        library.library_path()

    assert (
        f"the sparse engine was not built at install time ({why}); "
        "install g++ or clang and reinstall, or use model.onnx" == str(caught.value)
    )
    assert not library.available()


@pytest.mark.parametrize("use", [library.load, library.describe, lambda: library.register(Options())])
def test_everything_that_needs_the_library_says_so(home: Path, use: object) -> None:
    assert callable(use)
    with pytest.raises(UnavailableError, match="was not built at install time"):
        use()


def test_a_file_that_is_no_library_is_told(home: Path) -> None:
    (home / library._LIBRARY).write_text("not one")

    with pytest.raises(
        UnavailableError, match=r"^the sparse engine cannot be loaded: .*; reinstall, or use model\.onnx$"
    ):
        library.load()


@needs_library
def test_a_library_of_another_version_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "libother.so"
    copy.write_bytes(library.library_path().read_bytes())
    monkeypatch.setattr(library, "ABI", 2)

    with pytest.raises(UnavailableError, match=r"^libother\.so has version 1, this package needs 2; reinstall$"):
        library.NativePlan(TINY, copy)


@needs_library
def test_options_get_the_library() -> None:
    options = Options()

    library.register(options)

    assert [str(library.library_path())] == options.registered


@needs_library
def test_what_onnxruntime_says_comes_in_one_line() -> None:
    with pytest.raises(UnavailableError) as caught:
        library.register(Options(ValueError("too\n  old")))

    assert "onnxruntime cannot load the sparse engine: too old; use model.onnx" == str(caught.value)


@needs_library
@pytest.mark.parametrize("asked", ["portable", "avx2", "", "something"])
def test_the_instruction_set_can_be_lowered_and_not_raised(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ["portable", "neon", "avx2", "avx512"]
    monkeypatch.delenv("NTKSAP_ENGINE_ISA", raising=False)
    best = library.describe()["isa"]
    monkeypatch.setenv("NTKSAP_ENGINE_ISA", asked)

    found = library.describe()

    assert 1 == found["abi"]
    limit = asked if asked in order and best != "neon" else best
    assert min(best, limit, key=order.index) == found["isa"]


@needs_library
def test_a_plan_is_freed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = library.NativePlan(TINY)

    plan.close()
    plan.close()

    assert not plan.close.alive
    with pytest.raises(CheckpointError, match="the plan cannot be used: a plan begins with 64 bytes of header"):
        library.NativePlan(b"")
