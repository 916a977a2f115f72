"""The README is executed: its Python as written, its commands as far as their settings go."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from ntksap_export.engine import available

README = (Path(__file__).parents[1] / "README.md").read_text()
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def python_blocks() -> list[str]:
    return [text for language, text in BLOCKS if language == "python"]


def commands() -> list[str]:
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("ntksap ")]


def test_the_ten_statements_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}

    for block in python_blocks():
        exec(compile(block, "README.md", "exec"), scope)

    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert scope["mask"].sparsity == pytest.approx(0.9, abs=1e-4)  # type: ignore[attr-defined]
    assert scope["parity"].passed  # type: ignore[attr-defined]
    assert scope["latency"].summary()["runs"] >= 10  # type: ignore[attr-defined]


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("ntksap prune-train-export")])
def test_the_roads_of_the_readme_are_accepted(
    command: str, ntksap: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    if "--data" in words:
        words[words.index("--data") + 1] = "digits"

    code, _, err = ntksap(*words, "--dry-run")

    assert code == 0, err


def test_the_stages_of_the_readme_run_in_the_order_they_stand(
    ntksap: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {
        "prune": ["--score-batch-size", "8", "--image-size", "16"],
        "profile": ["--min-time", "0.05", "--max-time", "0.05"],
        "sweep": ["--dry-run"],
    }

    for command in commands():
        words = shlex.split(command.replace("--image-size 32", "--image-size 16"))[1:]
        if words[0] == "prune-train-export" or ("--engine" in words and not available()):
            continue
        settings = [] if "--compare" in words else quick.get(words[0], [])
        code, _, err = ntksap(*words, *settings)
        assert code == 0, f"{command}: {err}"

    assert (tmp_path / "out" / "mine" / "report.html").is_file()


def rows(text: str, head: str) -> dict[tuple[str, str], list[str]]:
    """The first table under a line that begins with `head`: what stands behind network and precision."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(name.removesuffix(" unstructured"), precision): rest for name, precision, *rest in cells}


def test_the_table_of_resnet50_is_what_was_measured() -> None:
    measured = rows((RESULTS / "profile.txt").read_text(), "| network | precision |")
    told = rows(README, "| network | precision |")

    assert told
    for which, (flops, size, *rest) in told.items():
        own = measured[which]
        peaks = " / ".join(own[5:8])

        assert [*own[2:5], peaks] == rest
        assert (own[0], float(size)) == (flops.replace(" ", ""), pytest.approx(float(own[1]), abs=0.06))
