"""What is installed is what is in the tree, under one name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ntksap_export

ROOT = Path(__file__).parents[2]
HOMES = {"ntksap_export": "ntksap_export", "ntksap_export/cli": "cli", "ntksap_export/models": "models"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    # From a copy: a build folder left by an earlier build would smuggle removed files into the wheel.
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for folder in HOMES.values():
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("*.whl")
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def tree_names() -> set[str]:
    names = set()
    for home, folder in HOMES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                names.add(f"{home}/{path.relative_to(ROOT / folder).as_posix()}")
    return names


def test_the_wheel_holds_exactly_the_tree(wheel_names: set[str]) -> None:
    assert sorted(tree_names()) == sorted(wheel_names)


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {name.rpartition("/")[0].replace("/", ".") for name in tree_names() if name.endswith("/__init__.py")}

    assert sorted(folders) == sorted(project["tool"]["setuptools"]["packages"])


def test_public_names_all_load() -> None:
    assert ntksap_export.__all__ == [name for name in ntksap_export.__all__ if getattr(ntksap_export, name) is not None]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ntksap_export.nonsense


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, ntksap_export; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_of_ours_is_long() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in HOMES.values()
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 330
    }

    assert long == {}
