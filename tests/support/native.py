"""The engine's library as the package's build makes it, for tests: the same sources, flags and order of linking."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
# Where the package's build keeps its object files: what an install compiled is not compiled again.
OBJECTS = ROOT / "build" / "engine"


def load_build() -> ModuleType:
    """A fresh copy of `native/build.py`, which is no part of the installed package."""
    path = ROOT / "ntksap_export" / "engine" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("ntksap_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load_build()


def compilers() -> list[str]:
    """The C++ compilers to try, each once: two names of one program are one."""
    found = {str(Path(path).resolve()): name for name in ("clang++", "g++") if (path := shutil.which(name))}
    return sorted(found.values())


def has_compiler() -> bool:
    try:
        BUILD.find_compiler()
    except BUILD.BuildError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
needs_binutils = pytest.mark.skipif(not (shutil.which("nm") and shutil.which("objdump")), reason="no nm and objdump")
needs_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86-64 CPU")


def build_library(
    out: Path, flags: Sequence[str] = (), sanitize: str = "", compiler: Sequence[str] | None = None
) -> Path:
    """Write the library to `out`, compiled with further flags or with sanitizers ("address,undefined"); gives `out`."""
    BUILD.compile_library(out, OBJECTS, compiler=compiler, flags=flags, sanitize=sanitize)
    return out


def build_program(out: Path, source: Path, sanitize: str = "") -> Path:
    """Write the program of one C++ file and all of the engine to `out`; gives `out`."""
    command, options = BUILD.find_compiler(), BUILD.sanitizer_flags(sanitize)
    objects = BUILD.compile_objects(OBJECTS, command, options)
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{BUILD.NATIVE}", *options]
    subprocess.run([*command, *flags, str(source), *map(str, objects), "-o", str(out)], check=True)
    return out


def sanitized_environment(sanitize: str = "address,undefined") -> dict[str, str]:
    """The environment of a Python process that may load a library with these sanitizers.

    Their runtimes have to be there before the interpreter's first allocation, and libstdc++ with them, because the
    interpreter brings none and the address sanitizer looks for its `__cxa_throw` when it starts. Memory that is never
    freed is not reported: the interpreter's own would be.
    """
    runtimes = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
    wanted = [runtimes[name] for name in sanitize.split(",")]
    compiler = BUILD.find_compiler()
    paths = [_file_of(compiler, name) for name in (*wanted, "libstdc++.so")]
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "LD_PRELOAD": ":".join(paths)}
    return {**os.environ, **options}


def _file_of(compiler: Sequence[str], name: str) -> str:
    done = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(done.stdout.strip()).resolve())


def symbols(library: Path, *options: str) -> set[str]:
    """Names that `nm` prints with these options, without their versions."""
    done = subprocess.run(["nm", *options, str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines() if line.strip()}


def functions(library: Path) -> Mapping[str, list[str]]:
    """The instructions of every function by its readable name; of several with one name, all together."""
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    here: list[str] = []
    for line in text.splitlines():
        if line.endswith(">:"):
            here = found.setdefault(line.partition("<")[2].removesuffix(">:"), [])
        elif "\t" in line:
            here.append(line.partition("\t")[2])
    return found
