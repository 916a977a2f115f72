"""What the compiled library shows, needs, and runs on which CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.native import (
    BUILD,
    build_library,
    compilers,
    functions,
    needs_binutils,
    needs_compiler,
    needs_x86,
    sanitized_environment,
    symbols,
)

pytestmark = [needs_compiler, needs_binutils]

# Registers and mask registers that only AVX-512 has; instructions that need AVX or more.
AVX512 = re.compile(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b")
AVX = re.compile(r"^v(?!er[rw]\b)|%ymm")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library") / BUILD.LIBRARY)


def test_it_exports_what_the_header_declares_and_nothing_else(library: Path) -> None:
    assert set(BUILD.exported_symbols()) == symbols(library, "-D", "--defined-only")


def test_it_needs_no_onnxruntime_and_no_python(library: Path) -> None:
    headers = subprocess.run(["objdump", "-p", str(library)], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED\s+(\S+)", headers)

    assert "libc.so.6" in needed
    assert set() == {
        name for name in needed if not re.match(r"(libc|libm|libgcc_s|libstdc\+\+|libpthread|ld-)\b", name)
    }
    assert set() == {name for name in symbols(library, "-D", "--undefined-only") if re.match("_?(Ort|Py)", name)}


@needs_x86
def test_richer_instructions_stand_only_in_functions_that_are_called_where_the_cpu_has_them(library: Path) -> None:
    # By name: kernels live in a namespace called after their instruction set. An inline function of the standard
    # library, or a value set up when the library is loaded, is compiled for it as well and would run everywhere.
    code = functions(library)
    richest = [name for name, lines in code.items() if any(AVX512.search(line) for line in lines)]
    rich = [name for name, lines in code.items() if any(AVX.search(line) for line in lines)]

    assert [] == [name for name in richest if "avx512::" not in name]
    assert [] == [name for name in rich if "avx512::" not in name and "avx2::" not in name]
    assert [] == [name for name in rich if name.startswith("_GLOBAL__")]


def test_the_cpu_is_asked_for_everything_that_files_are_compiled_for() -> None:
    text = "".join(path.read_text() for path in BUILD.NATIVE.glob("*.cpp"))
    asked = set(re.findall(r'__builtin_cpu_supports\("(\w+)"\)', text))

    assert {flag.removeprefix("-m") for flags in BUILD.X86.values() for flag in flags} == asked


@pytest.mark.slow
@pytest.mark.parametrize("compiler", compilers())
def test_every_source_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    build_library(tmp_path / BUILD.LIBRARY, flags=("-Werror",), compiler=[compiler])

    assert set(BUILD.exported_symbols()) == symbols(tmp_path / BUILD.LIBRARY, "-D", "--defined-only")


@pytest.mark.slow
@needs_x86
@pytest.mark.parametrize("name", [name for name in BUILD.X86 if name])
def test_every_source_compiles_without_its_instruction_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUILD.X86, name, ())
    build_library(tmp_path / BUILD.LIBRARY, flags=("-Werror",))

    assert not [function for function in functions(tmp_path / BUILD.LIBRARY) if f"{name.lstrip('_')}::" in function]


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_a_library_with_sanitizers_loads_where_they_are(sanitize: str, tmp_path: Path) -> None:
    library = build_library(tmp_path / BUILD.LIBRARY, sanitize=sanitize)
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).ntksap_abi_version())"
    command = [sys.executable, "-c", code, str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=sanitized_environment(sanitize))

    assert (0, "1\n", "") == (done.returncode, done.stdout, done.stderr)
    assert f"__{sanitize[0]}san_init" in symbols(library, "-D", "--undefined-only")
