"""How the library is built: what is compiled again, what happens without a compiler; on small sources of our own."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.native import functions, load_build, needs_binutils, needs_compiler, needs_x86, symbols

SOURCES = {
    "ntksap_engine.h": """
        #define NTKSAP_API extern "C" __attribute__((visibility("default")))
        // ntksap_remark() is no function
        typedef void (*ntksap_task)(void*);
        NTKSAP_API int ntksap_one(int x);
        NTKSAP_API int
            RegisterCustomOps(void*);
    """,
    "sum.h": """
        int poor(int), rich(int);
        template <class T> __attribute__((noinline)) T sum_of(const T* p, int n) {
          T s = 0;
          for (int i = 0; i < n; ++i) s += p[i] * p[i];
          return s;
        }
    """,
    "capi.cpp": """
        #include <string>
        #include <vector>
        #include "ntksap_engine.h"
        #include "sum.h"
        int ntksap_one(int x) { return int(sum_of(std::vector<int>(x + 9, 1).data(), x)) + poor(x) + rich(x); }
        int RegisterCustomOps(void*) { return int(std::vector<std::string>(3, "a").size()); }
    """,
    "some_avx2.cpp": '#include "sum.h"\nint poor(int x) { return sum_of(&x, x) + int(sum_of((float*)0, x)); }',
    "some_avx512.cpp": """
        #include "sum.h"
        int rich(int x) {
        #if defined(__AVX512F__)
          return sum_of(&x, x) + int(sum_of((float*)0, x));
        #else
          return x;
        #endif
        }
    """,
}


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build with small sources in place of the engine's."""
    module = load_build()
    native = tmp_path / "native"
    native.mkdir()
    for name, text in SOURCES.items():
        (native / name).write_text(text)
    monkeypatch.setattr(module, "NATIVE", native)
    monkeypatch.setattr(module, "HEADER", native / "ntksap_engine.h")
    monkeypatch.setattr(module, "FLAGS", tuple("-O1" if flag == "-O3" else flag for flag in module.FLAGS))
    return module


def wrapped_compiler(folder: Path, build: ModuleType, refused: str = "-nothing") -> tuple[str, Path]:
    """A compiler that writes down what it is called with and does not know one flag."""
    log, script = folder / "calls", folder / "compiler"
    real = shlex.join(build.find_compiler())
    script.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\n'
        f'case " $* " in *" {refused} "*) echo "error: unknown option {refused}" >&2; exit 1;; esac\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    log.touch()
    return str(script), log


def compiled(log: Path) -> list[str]:
    """Sources that were compiled since the last question."""
    lines = log.read_text().splitlines()
    log.write_text("")
    words = [word for line in lines if " -c " in line for word in line.split()]
    return sorted(Path(word).name for word in words if word.endswith(".cpp"))


@needs_compiler
@needs_binutils
def test_only_what_the_header_declares_is_exported(build: ModuleType, tmp_path: Path) -> None:
    build.compile_library(tmp_path / "engine.so", tmp_path / "objects")

    assert build.exported_symbols() == ["RegisterCustomOps", "ntksap_one"]
    assert set(build.exported_symbols()) == symbols(tmp_path / "engine.so", "-D", "--defined-only")


@needs_compiler
def test_only_what_changed_is_compiled_again(build: ModuleType, tmp_path: Path) -> None:
    compiler, log = wrapped_compiler(tmp_path, build)
    out, objects = tmp_path / "engine.so", tmp_path / "objects"

    def again(*flags: str) -> list[str]:
        build.compile_library(out, objects, compiler=[compiler], flags=flags)
        return compiled(log)

    everything = ["capi.cpp", "some_avx2.cpp", "some_avx512.cpp"]
    assert everything == again()
    assert [] == again()
    (build.NATIVE / "capi.cpp").touch()
    assert ["capi.cpp"] == again()
    (build.NATIVE / "sum.h").touch()
    assert everything == again()
    assert everything == again("-DOTHER")
    assert [] == again()


@needs_compiler
@needs_binutils
@needs_x86
def test_inline_functions_that_files_share_are_the_poorest_instruction_sets(build: ModuleType, tmp_path: Path) -> None:
    build.compile_library(tmp_path / "engine.so", tmp_path / "objects", flags=("-O3",))
    (rich,) = (tmp_path / "objects").glob("some_avx512-*.o")

    def registers(file: Path, function: str) -> set[str]:
        lines = [line for name, lines in functions(file).items() if name.startswith(function) for line in lines]
        assert lines, function
        return {register for register in ("%xmm", "%ymm", "%zmm") if any(register in line for line in lines)}

    assert registers(rich, "int sum_of<int>") & {"%ymm", "%zmm"}
    assert registers(tmp_path / "engine.so", "int sum_of<int>") <= {"%xmm"}  # all three files have it
    assert registers(tmp_path / "engine.so", "float sum_of<float>") <= {"%xmm", "%ymm"}  # the two richer ones


@needs_compiler
@needs_x86
def test_an_instruction_set_that_the_compiler_does_not_know_is_left_out(build: ModuleType, tmp_path: Path) -> None:
    compiler, _ = wrapped_compiler(tmp_path, build, refused="-mavx512f")
    said: list[str] = []

    build.compile_library(tmp_path / "engine.so", tmp_path / "objects", compiler=[compiler], warn=said.append)

    expected = "compiler failed: error: unknown option -mavx512f"
    assert [f"some_avx512.cpp is compiled without its instruction set ({expected})"] == said
    assert (tmp_path / "engine.so").is_file()


@needs_compiler
@needs_x86
def test_a_mistake_in_a_file_of_a_known_instruction_set_is_told_where_that_is_asked(
    build: ModuleType, tmp_path: Path
) -> None:
    path = build.NATIVE / "some_avx512.cpp"
    path.write_text(path.read_text().replace("return sum_of", "return no_sum_of"))

    with pytest.raises(build.BuildError, match=r"some_avx512\.cpp:5:\d+: error: .*no_sum_of"):
        build.compile_library(tmp_path / "engine.so", tmp_path / "objects")


@needs_compiler
def test_a_name_that_is_nowhere_defined_is_an_error_of_the_build(build: ModuleType, tmp_path: Path) -> None:
    (build.NATIVE / "some_avx2.cpp").write_text("")

    with pytest.raises(build.BuildError, match=r"undefined reference to .poor\(int\)"):
        build.compile_library(tmp_path / "engine.so", tmp_path / "objects")
    assert not (tmp_path / "engine.so").exists()


@needs_compiler
def test_a_library_or_the_reason_is_left_never_both(build: ModuleType, tmp_path: Path) -> None:
    home, objects, said = tmp_path / "home", tmp_path / "objects", []

    def left(mode: str) -> list[str]:
        build.put_library(home, objects, mode=mode, warn=said.append)
        return sorted(path.name for path in home.iterdir())

    assert [build.LIBRARY] == left("")
    assert ["not_built.txt"] == left("0")
    assert "NTKSAP_ENGINE_BUILD=0\n" == (home / "not_built.txt").read_text()
    assert [build.LIBRARY] == left("require")
    assert ["the sparse engine is not built (NTKSAP_ENGINE_BUILD=0); everything else is installed"] == said


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PATH": "/nowhere"}, "no C++ compiler"),
        ({"PATH": "/nowhere", "CXX": ""}, "no C++ compiler"),
        ({"CXX": "no-such-compiler -O0"}, "no C++ compiler: $CXX is no-such-compiler -O0, which is not there"),
    ],
)
def test_without_a_compiler_the_reason_is_kept(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []

    assert not build.put_library(tmp_path / "home", tmp_path / "objects", warn=said.append)

    assert f"{reason}\n" == (tmp_path / "home" / "not_built.txt").read_text()
    assert [f"the sparse engine is not built ({reason}); everything else is installed"] == said
    with pytest.raises(build.BuildError, match="no C"):
        build.put_library(tmp_path / "home", tmp_path / "objects", mode="require", warn=said.append)


def test_a_compiler_that_fails_is_no_failure_of_the_install(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", f"{broken} --fast")

    assert not build.put_library(tmp_path / "home", tmp_path / "objects", warn=lambda line: None)
    assert "broken failed: exit code 3\n" == (tmp_path / "home" / "not_built.txt").read_text()


def test_a_wish_that_is_none_is_an_error(build: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match="NTKSAP_ENGINE_BUILD must be 0, 1 or require; got yes"):
        build.put_library(tmp_path, tmp_path, mode="yes", warn=lambda line: None)
