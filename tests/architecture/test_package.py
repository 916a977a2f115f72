"""What is installed is what is in the tree, under one name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import ntksap_export
from tests.support.native import BUILD, OBJECTS, ROOT, has_compiler, needs_compiler

HOMES = {"ntksap_export": "ntksap_export", "ntksap_export/cli": "cli", "ntksap_export/models": "models"}
ENGINE = "ntksap_export/engine"


STALE = b"left by an earlier editable install"


def copy_of_the_tree(tree: Path) -> Path:
    """What a fresh clone holds of the package, and what an editable install left there: neither its build folder nor
    its library may reach the wheel. Object files come along, so that nothing is compiled twice.
    """
    for folder in HOMES.values():
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    if OBJECTS.is_dir():
        shutil.copytree(OBJECTS, tree / "build" / "engine")
    for name in (BUILD.LIBRARY, BUILD.WHY_NOT):
        (tree / ENGINE / name).write_bytes(STALE)
    return tree


def built(tree: Path, out: Path, *what: str, **environment: str) -> Path:
    """The wheel that `python -m build` makes of the tree."""
    command = [sys.executable, "-m", "build", *what, "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tree.parent, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, out = copy_of_the_tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("wheel")
    return built(tree, out, "--wheel", NTKSAP_ENGINE_BUILD="require" if has_compiler() else "")


@pytest.fixture(scope="module")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built where there is no compiler."""
    tree, out = copy_of_the_tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("wheel")
    return built(tree, out, "--wheel", NTKSAP_ENGINE_BUILD="", CXX="", PATH=str(out))


def tree_names() -> set[str]:
    """Files of the tree that are installed: of the engine's C++ only the header for callers of the library."""
    names = set()
    for home, folder in HOMES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                names.add(f"{home}/{path.relative_to(ROOT / folder).as_posix()}")
    left_out = {name for name in names if name.startswith(f"{ENGINE}/native/") and not name.endswith(BUILD.HEADER.name)}
    return names - left_out - {f"{ENGINE}/{BUILD.LIBRARY}", f"{ENGINE}/{BUILD.WHY_NOT}"}


@needs_compiler
def test_the_wheel_holds_exactly_the_tree_and_the_library(wheel: Path) -> None:
    assert sorted({*tree_names(), f"{ENGINE}/{BUILD.LIBRARY}"}) == sorted(names_in(wheel))
    assert STALE != zipfile.ZipFile(wheel).read(f"{ENGINE}/{BUILD.LIBRARY}")


@needs_compiler
def test_a_wheel_with_the_library_is_for_one_platform_and_every_python(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")

    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    assert ["Root-Is-Purelib: false", f"Tag: py3-none-{platform}"] == tags_of(wheel)


def test_without_a_compiler_the_wheel_holds_the_tree_and_the_reason(plain_wheel: Path) -> None:
    assert sorted({*tree_names(), f"{ENGINE}/{BUILD.WHY_NOT}"}) == sorted(names_in(plain_wheel))
    assert b"no C++ compiler\n" == zipfile.ZipFile(plain_wheel).read(f"{ENGINE}/{BUILD.WHY_NOT}")
    assert plain_wheel.name.endswith("-py3-none-any.whl")
    assert ["Root-Is-Purelib: true", "Tag: py3-none-any"] == tags_of(plain_wheel)


def tags_of(wheel: Path) -> list[str]:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/WHEEL"))
    lines = zipfile.ZipFile(wheel).read(name).decode().splitlines()
    return [line for line in lines if line.startswith(("Root-Is-Purelib", "Tag"))]


def installed(wheel: Path, home: Path) -> dict[str, str]:
    """Install the wheel alone into a folder; gives the environment in which Python finds it before the tree."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(home)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(home)}


ASK = """
import sys
import ntksap_export.engine as engine
from ntksap_export.errors import NtksapError
print(engine.__file__.startswith(sys.argv[1]), engine.available())
try:
    print(engine.library_path())
except NtksapError as error:
    print(error)
"""


def answers(wheel: Path, home: Path) -> list[str]:
    command = [sys.executable, "-c", ASK, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home, env=installed(wheel, home))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_installed_without_the_library_the_engine_says_what_to_do(plain_wheel: Path, tmp_path: Path) -> None:
    expected = (
        "the sparse engine was not built at install time (no C++ compiler); install g++ or clang and reinstall, "
        "or use model.onnx"
    )

    assert ["True False", expected] == answers(plain_wheel, tmp_path)


@needs_compiler
def test_installed_with_the_library_the_engine_is_available(wheel: Path, tmp_path: Path) -> None:
    assert ["True True", str(tmp_path / ENGINE / BUILD.LIBRARY)] == answers(wheel, tmp_path)


@pytest.mark.slow
@needs_compiler
def test_a_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    # Without a choice, `build` makes the source distribution and then the wheel from that alone.
    other = built(copy_of_the_tree(tree), tmp_path, NTKSAP_ENGINE_BUILD="require")
    library = f"{ENGINE}/{BUILD.LIBRARY}"
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as packed:
        sources = {Path(name).name for name in packed.getnames() if f"/{ENGINE}/native/" in name}

    assert {path.name for path in BUILD.NATIVE.iterdir() if path.is_file()} == sources
    assert wheel.name == other.name
    assert names_in(wheel) == names_in(other)
    assert zipfile.ZipFile(wheel).read(library) == zipfile.ZipFile(other).read(library)


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
