"""Compiles the engine's shared library: which files, with which flags, and in which order they are linked.

The package's build (setup.py) and the tests' sanitizer builds (tests/support/native.py) both call `compile_library`.
It calls the C++ compiler itself, keeps the object files and makes anew only what changed. Python's own extension
machinery is not used: the library knows no Python, one serves them all, and its files want different flags.

A file's name says which instruction set it may use (`kernels_avx512.cpp`); the others run on every CPU of the platform.
Where the compiler has no such instruction set the file is compiled without, and then says by itself that it has none.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
HEADER = NATIVE / "ntksap_engine.h"
LIBRARY = "libntksap_engine.dylib" if sys.platform == "darwin" else "libntksap_engine.so"
WHY_NOT = "not_built.txt"
COMPILERS = ("c++", "g++", "clang++")
NO_COMPILER = "no C++ compiler"

FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-pthread", "-Wall", "-Wextra"),
    *("-fvisibility=hidden", "-fvisibility-inlines-hidden"),
    # Sums may be fused, errno and traps are not asked for; NaN, infinity and the order of sums stay as written.
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
# From the poorest instruction set to the richest: the linker keeps the first of several equal inline functions, so
# with the files in this order no CPU meets one of a richer set than its own (a test looks at every function).
X86 = {
    "": (),
    "_avx2": ("-mavx2", "-mfma"),
    "_avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
}
# What every x86-64 CPU has, also where the compiler's own default is richer.
X86_BASE = "-march=x86-64"
# So that the library runs beside an older libstdc++ than the compiler's; not every toolchain has the archive. libgcc
# stays shared: it and what nobody calls of the archive would ask for a newer glibc (g++ 12: 2.36 in place of 2.34).
STATIC = ("-static-libstdc++", "-Wl,--gc-sections")


class BuildError(Exception):
    """The library cannot be made; one line says why."""


def find_compiler(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The C++ compiler's command: $CXX, which may hold options, or the first of the usual names on $PATH.

    Raises:
        BuildError: there is none.
    """
    asked = shlex.split(environment.get("CXX", ""))
    for command in [asked] if asked else [[name] for name in COMPILERS]:
        found = shutil.which(command[0], path=environment.get("PATH", os.defpath))
        if found:
            return (found, *command[1:])
    raise BuildError(f"{NO_COMPILER}: $CXX is {shlex.join(asked)}, which is not there" if asked else NO_COMPILER)


def sources() -> list[tuple[Path, str]]:
    """Every C++ file with the instruction set that its name asks for, in the order of linking."""
    found = [(path, next(name for name in reversed(X86) if path.stem.endswith(name))) for path in NATIVE.glob("*.cpp")]
    return sorted(found, key=lambda entry: (list(X86).index(entry[1]), entry[0].name))


def instruction_set_flags(name: str) -> tuple[str, ...]:
    """What the compiler is told for a file of that instruction set; nothing on CPUs that are not x86-64."""
    return (X86_BASE, *X86[name]) if platform.machine().lower() in ("x86_64", "amd64") else ()


def exported_symbols() -> list[str]:
    """The names that the library shows, as its public header declares them.

    Raises:
        BuildError: there is no header.
    """
    if not HEADER.is_file():
        raise BuildError(f"{HEADER.name} is missing")
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", HEADER.read_text(), flags=re.DOTALL)
    return sorted(set(re.findall(r"\b(ntksap_[a-z0-9_]+|RegisterCustomOps)\s*\(", text)))


def compile_library(
    out: Path,
    objects: Path,
    *,
    compiler: Sequence[str] | None = None,
    flags: Sequence[str] = (),
    sanitize: str = "",
    strict: bool = True,
    warn: Callable[[str], None] = print,
) -> None:
    """Write the shared library `out`, whole or not at all; object files stay in the folder `objects` for the next time.

    Args:
        out: the library; its folder exists.
        objects: made if it is not there.
        compiler: the command to call; None looks for one.
        flags: given to every file after our own, and to the linker.
        sanitize: what -fsanitize= gets; such a library loads only into a process that has the sanitizer.
        strict: an instruction set that the compiler knows must compile; else the library is made without it.
        warn: is told which file is compiled without its instruction set, and why.

    Raises:
        BuildError: no compiler, no sources, or what the compiler said first.
    """
    command = tuple(compiler or find_compiler())
    options = (*flags, *sanitizer_flags(sanitize))
    made = compile_objects(objects, command, options, strict=strict, warn=warn)
    _link(out, made, command, options, plain=not sanitize)


def sanitizer_flags(names: str) -> tuple[str, ...]:
    """What the compiler is told for these sanitizers ("address,undefined"); nothing for none."""
    return ("-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={names}", "-fno-sanitize-recover=all") if names else ()


def compile_objects(
    objects: Path,
    command: Sequence[str],
    options: Sequence[str] = (),
    *,
    strict: bool = True,
    warn: Callable[[str], None] = print,
) -> list[Path]:
    """The object files of all sources in the order of linking; arguments and errors are `compile_library`'s."""
    if not sources():
        raise BuildError("no C++ sources")
    objects.mkdir(parents=True, exist_ok=True)
    version = _call([*command, "--version"])

    def compiled(entry: tuple[Path, str]) -> Path:
        path, name = entry
        extra, base = instruction_set_flags(name), instruction_set_flags("")
        try:
            return _compile(path, objects, command, (*FLAGS, *extra, *options), version)
        except BuildError as error:
            if extra == base or (strict and _knows(command, extra)):
                raise
            warn(f"{path.name} is compiled without its instruction set ({error})")
            return _compile(path, objects, command, (*FLAGS, *base, *options), version)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
        return list(pool.map(compiled, sources()))


def put_library(home: Path, objects: Path, *, mode: str = "", warn: Callable[[str], None]) -> bool:
    """Make the library in the package's folder, or leave a file there that says why it is not made.

    Args:
        home: where `ntksap_export/engine` is put together; changed: library or reason, never both.
        objects: see `compile_library`.
        mode: $NTKSAP_ENGINE_BUILD: "" or "1" makes it if possible, "0" does not, "require" fails if it cannot.
        warn: is told, in one line, what is missing.

    Returns:
        Whether the library is there now.

    Raises:
        BuildError: it is required and cannot be made, or the mode is none of these.
    """
    if mode not in ("", "0", "1", "require"):
        raise BuildError(f"NTKSAP_ENGINE_BUILD must be 0, 1 or require; got {mode}")
    home.mkdir(parents=True, exist_ok=True)
    try:
        if mode == "0":
            raise BuildError("NTKSAP_ENGINE_BUILD=0")
        compile_library(home / LIBRARY, objects, strict=mode == "require", warn=warn)
    except BuildError as error:
        if mode == "require":
            raise
        (home / LIBRARY).unlink(missing_ok=True)
        (home / WHY_NOT).write_text(f"{error}\n")
        warn(f"the sparse engine is not built ({error}); everything else is installed")
        return False
    (home / WHY_NOT).unlink(missing_ok=True)
    return True


def _compile(path: Path, objects: Path, command: Sequence[str], flags: Sequence[str], version: str) -> Path:
    """The object file of a source, made anew if the source, a header, the flags or the compiler changed."""
    digest = hashlib.sha256("\0".join([*command, *flags, version]).encode()).hexdigest()[:12]
    done = objects / f"{path.stem}-{digest}.o"
    read = [path, *NATIVE.glob("*.h"), *NATIVE.glob("*.inc")]
    if done.is_file() and done.stat().st_mtime > max(file.stat().st_mtime for file in read):
        return done
    half = done.with_suffix(f".{os.getpid()}")
    try:
        _call([*command, *flags, "-c", str(path), "-o", str(half)])
        half.replace(done)
    finally:
        half.unlink(missing_ok=True)
    return done


def _link(out: Path, objects: Sequence[Path], command: Sequence[str], options: Sequence[str], *, plain: bool) -> None:
    """Link beside `out` and rename: a process that has the old library open keeps it."""
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        half, names = Path(folder) / out.name, Path(folder) / "exported"
        common = [*command, *map(str, objects), *options, "-pthread", "-o", str(half)]
        if sys.platform == "darwin":
            names.write_text("".join(f"_{name}\n" for name in exported_symbols()))
            common += ["-dynamiclib", f"-Wl,-exported_symbols_list,{names}", f"-Wl,-install_name,@rpath/{out.name}"]
        else:
            # Hidden visibility is not enough: what is instantiated from namespace std shows itself.
            names.write_text(f"{{ global: {' '.join(f'{name};' for name in exported_symbols())} local: *; }};\n")
            common += ["-shared", f"-Wl,--version-script={names}"]
        if plain and sys.platform != "darwin":
            common.append("-Wl,--no-undefined")
            try:
                _call([*common, *STATIC])
            except BuildError:
                _call(common)
        else:
            _call(common)
        half.replace(out)


def _knows(command: Sequence[str], flags: Sequence[str]) -> bool:
    """Whether the compiler takes these flags at all."""
    try:
        _call([*command, *flags, "-fsyntax-only", "-x", "c++", os.devnull])
    except BuildError:
        return False
    return True


def _call(command: Sequence[str]) -> str:
    """What a command says on standard output.

    Raises:
        BuildError: it failed or cannot be started; with its first line that tells an error.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise BuildError(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"\berror\b|undefined (reference|symbol)", line)]
        said = (telling or lines or [f"exit code {done.returncode}"])[0]
        raise BuildError(f"{name} failed: {said.removeprefix(f'{NATIVE}{os.sep}')}")
    return done.stdout
