"""The package's build: pyproject.toml says what is installed, this file adds the engine's shared library to it.

The library is made by `ntksap_export/engine/native/build.py`. It knows no Python, so a wheel that holds it is tagged
py3-none-<platform>; without it (no compiler, NTKSAP_ENGINE_BUILD=0) it is py3-none-any and everything else works.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

HOME = Path("ntksap_export", "engine")


def _native_build() -> ModuleType:
    path = Path(__file__).parent / HOME / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("ntksap_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


native = _native_build()


class BuildEngine(Command):
    """Put the library beside the modules: into the wheel, or for an editable install into the tree."""

    description = "compile the engine's shared library"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.build_base: str | None = None
        self.editable_mode = False
        self.built = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"), ("build_base", "build_base"))

    def run(self) -> None:
        mode = os.environ.get("NTKSAP_ENGINE_BUILD", "")
        home = HOME if self.editable_mode else Path(str(self.build_lib)) / HOME
        objects = Path(str(self.build_base)) / "engine"
        try:
            self.built = native.put_library(home, objects, mode=mode, warn=self._warn)
        except native.BuildError as error:
            raise SystemExit(f"the sparse engine cannot be built: {error}") from None

    def _warn(self, line: str) -> None:
        self.announce(f"warning: {line}", logging.WARNING)

    def get_source_files(self) -> list[str]:
        return sorted(str(HOME / "native" / path.name) for path in native.NATIVE.iterdir() if path.is_file())

    def get_outputs(self) -> list[str]:
        return [str(Path(str(self.build_lib)) / HOME / (native.LIBRARY if self.built else native.WHY_NOT))]

    def get_output_mapping(self) -> dict[str, str]:
        return {out: str(HOME / Path(out).name) for out in self.get_outputs()} if self.editable_mode else {}


class Build(build):
    """The usual build and then the library."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_engine", None)]


class BdistWheel(bdist_wheel):
    """A wheel for one platform and every Python 3 if it holds the library, else for every platform."""

    def _holds_library(self) -> bool:
        engine = self.get_finalized_command("build_engine")
        return bool(engine.built and not engine.editable_mode)

    def write_wheelfile(self, *arguments: str) -> None:
        self.root_is_pure = not self._holds_library()
        super().write_wheelfile(*arguments)

    def get_tag(self) -> tuple[str, str, str]:
        self.root_is_pure = not self._holds_library()
        # The library is made for this machine alone, also under a Python that is made for two.
        system = super().get_tag()[2].replace("universal2", platform.machine().lower())
        return "py3", "none", system


if __name__ == "__main__":
    setup(cmdclass={"build": Build, "build_engine": BuildEngine, "bdist_wheel": BdistWheel})
