"""Exit codes are an interface: pipelines read them."""

from __future__ import annotations

from pathlib import Path

from ntksap_export import errors

EXPECTED = {
    "NtksapError": 1,
    "ConfigError": 2,
    "DataError": 3,
    "CheckpointError": 4,
    "RunDirectoryError": 4,
    "ExportError": 5,
    "ScoreError": 6,
    "TrainingError": 6,
    "UnavailableError": 7,
    "FallbackError": 7,
    "Preempted": 143,
}


def test_each_error_has_its_code() -> None:
    found = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.NtksapError)
    }

    assert EXPECTED == found
    assert (8, 9, 70, 130, 143) == (
        errors.OS_ERROR_EXIT_CODE,
        errors.LIMIT_EXIT_CODE,
        errors.BUG_EXIT_CODE,
        errors.INTERRUPTED_EXIT_CODE,
        errors.TERMINATED_EXIT_CODE,
    )


def test_the_readme_lists_every_code() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()

    for code in sorted({*EXPECTED.values(), 8, 9, 70, 130, 143} - {1}):
        assert f"| {code} |" in readme
