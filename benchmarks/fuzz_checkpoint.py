"""Looks for a file that the checkpoint reader does not refuse as it should: fuzzing, guided by the reader's coverage.

pip install atheris; python benchmarks/fuzz_checkpoint.py --seconds 720 --out FOLDER

A file must be refused with one line of CheckpointError that names it, or be read as something that is written and read
again unchanged; within bounds of time and address space. Anything else is a finding, and the search goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ntksap_export.checkpoint import SparseCheckpoint

MOST_BYTES: Final = 1 << 29  # address space an input may take beside what the process has
MOST_SECONDS: Final = 20  # for one input
MOST_CHECKED: Final = 1 << 24  # dense bytes up to which what was read is written and read again
MOST_INPUT: Final = 16384
MOST_RUNS: Final = 200_000  # of one child: the fuzzer grows by 9 KB with each, the reader alone does not
LIBRARIES: Final = ("atheris", "safetensors", "zstandard")


class Broken(Exception):
    """The reader did other than it must."""


class Harness:
    """Runs inputs, and counts what became of them."""

    def __init__(self, folder: Path, out: Path) -> None:
        """Args: where inputs are laid down, best in memory; where findings and counts go."""
        self._one, self._many = folder / "one", folder / "many"
        for each in (self._one, self._many):
            each.mkdir(exist_ok=True)
        self._out = out
        self._told = json.loads(out.joinpath("state.json").read_text()) if (out / "state.json").exists() else {}
        self.counts = Counter(self._told.get("counts", {}))
        self.refusals: set[str] = set(self._told.get("refusals", ()))
        self.findings: dict[str, dict[str, Any]] = self._told.get("findings", {})
        self.slowest_s = float(self._told.get("slowest_s", 0))

    def __call__(self, data: bytes) -> None:
        """One input."""
        self.counts["inputs"] += 1
        _leave_room()
        try:
            self._check(data)
        except Exception as error:
            self._found(data, error)
        if self.counts["inputs"] % 500 == 0:
            self.write()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)

    def write(self) -> None:
        """Put the counts where the parent reads them."""
        told = {
            "counts": self.counts,
            "refusals": sorted(self.refusals),
            "findings": self.findings,
            "slowest_s": self.slowest_s,
        }
        beside = self._out / "state.part"
        beside.write_text(json.dumps(told))
        beside.replace(self._out / "state.json")

    def _check(self, data: bytes) -> None:
        from ntksap_export.checkpoint import SparseCheckpoint, describe
        from ntksap_export.errors import CheckpointError

        path = self._laid(data)
        start = time.perf_counter()
        try:
            loaded = SparseCheckpoint.load(path)
        except CheckpointError as error:
            self._refused(path, str(error))
            return
        finally:
            self.slowest_s = max(self.slowest_s, time.perf_counter() - start)
        self.counts["read"] += 1
        if sum(tensor.nbytes for tensor in loaded.tensors.values()) > MOST_CHECKED:
            self.counts["read, too large to be written again"] += 1
            return
        self.counts.update(f"read {row.encoding}" for row in describe(path).rows)
        self._same_again(loaded)

    def _laid(self, data: bytes) -> Path:
        from fuzz_mutation import MOST_SHARDS, cut

        pieces = cut(data)
        if len(pieces) == 1:
            (self._one / "model.safetensors").write_bytes(pieces[0])
            return self._one / "model.safetensors"
        for number in range(MOST_SHARDS):
            part = self._many / f"part-{number}.safetensors"
            if number + 1 < len(pieces):
                part.write_bytes(pieces[number + 1])
            else:
                part.unlink(missing_ok=True)
        (self._many / "model.safetensors.index.json").write_bytes(pieces[0])
        return self._many / "model.safetensors.index.json"

    def _refused(self, path: Path, said: str) -> None:
        self.counts["refused"] += 1
        named = str(path) if path.parent == self._one else f"{path.parent}/"
        if not said.startswith(named):
            raise Broken(f"does not begin with the file: {said}")
        if len(said.splitlines()) != 1 or len(said) > len(str(path)) + 500 or not said.isprintable():
            raise Broken(f"is not one short line: {said!r}")
        kind = re.sub(r"; got .*|'[^']*'|\"[^\"]*\"|[\[({].*|\d+", "_", said.partition(": ")[2])[:60]
        if kind not in self.refusals:
            self.refusals.add(kind)

    def _same_again(self, loaded: SparseCheckpoint) -> None:
        from ntksap_export.checkpoint import SparseCheckpoint

        again = self._one / "again.safetensors"
        content = loaded.to_bytes()
        again.write_bytes(content)
        found = SparseCheckpoint.load(again)
        if _content(found) != _content(loaded):
            raise Broken("is read otherwise once it was written again")
        if found.to_bytes() != content:
            raise Broken("is written otherwise once it was read again")

    def _found(self, data: bytes, error: Exception) -> None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "ntksap_export" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the check"
        self.counts["findings, repeated"] += 1
        key = re.sub(r"[^\w.-]+", "-", f"{type(error).__name__}-{where}")
        if key not in self.findings:
            said = re.sub(re.escape(str(self._one.parent)), "FOLDER", str(error))[:300]
            told = {"exception": type(error).__name__, "where": where, "said": said, "input_bytes": len(data)}
            self.findings[key] = {**told, "after_inputs": self.counts["inputs"]}
            (self._out / f"finding-{key}").write_bytes(data)
            self.write()


def _leave_room() -> None:
    """Let the process take MOST_BYTES more than it has by now: the fuzzer's own corpus grows."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, hard))


def _content(checkpoint: SparseCheckpoint) -> Any:
    import torch

    def bits(tensors: Any) -> Any:
        return {
            name: (str(one.dtype), tuple(one.shape), one.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            for name, one in tensors.items()
        }

    told = checkpoint.provenance and checkpoint.provenance.to_json()
    return bits(checkpoint.tensors), bits(checkpoint.mask), told


def fuzz(out: Path, seconds: int) -> None:
    """The child: does not come back, since libFuzzer ends the process."""
    import atheris
    import torch

    assert not [name for name in sys.modules if name.startswith("ntksap_export.checkpoint")]
    with atheris.instrument_imports(include=["ntksap_export.checkpoint"]):
        import ntksap_export.checkpoint  # noqa: F401
    from fuzz_mutation import Mutator, seeds

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        corpus = out / "corpus"
        corpus.mkdir(exist_ok=True)
        sound = seeds(Path(folder))
        for number, seed in enumerate(sound):
            (corpus / f"seed-{number:02d}").write_bytes(seed)
        harness = Harness(Path(folder), out)
        flags = [
            f"-max_total_time={seconds}",
            f"-runs={MOST_RUNS}",
            f"-max_len={MOST_INPUT}",
            f"-timeout={MOST_SECONDS}",
            "-rss_limit_mb=4096",
            "-len_control=0",
            "-print_final_stats=1",
            f"-artifact_prefix={out}/died-",
        ]

        def mutate_bytes(data: bytes, most: int) -> bytes:
            return bytes(atheris.Mutate(data, most))  # another function once Fuzz runs

        atheris.Setup(["fuzz", *flags, str(corpus)], harness, custom_mutator=Mutator(mutate_bytes, sound))
        atheris.Fuzz()


def _in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def search(out: Path, seconds: int) -> dict[str, Any]:
    """Run children until the time is over: one that dies is a finding, and another takes its place."""
    row: dict[str, Any] = {"executions": 0, "cov": 0, "ft": 0, "deaths": []}
    begin = time.monotonic()
    while (left := seconds - int(time.monotonic() - begin)) > 5:
        command = [sys.executable, __file__, "--child", "--seconds", str(left), "--out", str(out)]
        child = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=False)
        (out / "log.txt").write_text(child.stderr)
        row["executions"] += max((int(n) for n in re.findall(r"^#(\d+)\s", child.stderr, re.MULTILINE)), default=0)
        for key in ("cov", "ft"):
            row[key] = max([row[key], *(int(n) for n in re.findall(rf" {key}: (\d+)", child.stderr))])
        if child.returncode:
            row["deaths"].append({"code": child.returncode, "said": child.stderr.strip().splitlines()[-1:]})
            if len(row["deaths"]) > 20:
                break
    row["seconds"] = round(time.monotonic() - begin, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="how long to search")
    parser.add_argument("--out", type=Path, help="folder for corpus, findings and log; by default one that is removed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.out, options.seconds)
    with tempfile.TemporaryDirectory() as aside:
        out = options.out or Path(aside)
        out.mkdir(parents=True, exist_ok=True)
        row = search(out.resolve(), options.seconds)
        told = json.loads((out / "state.json").read_text())
        row["corpus_inputs"] = len(list((out / "corpus").iterdir()))
    _report(row, told)


def _report(row: dict[str, Any], told: dict[str, Any]) -> None:
    from common import save

    row |= {"per_s": round(row["executions"] / row["seconds"], 1), "counts": told["counts"]}
    row |= {"findings": list(told["findings"].values()), "slowest_load_s": round(told["slowest_s"], 3)}
    row |= {"kinds_of_refusal": len(told["refusals"]), "versions": {name: metadata.version(name) for name in LIBRARIES}}
    row["limits"] = {"address_space_bytes": MOST_BYTES, "seconds": MOST_SECONDS, "input_bytes": MOST_INPUT}
    lines = [
        ", ".join(f"{name} {version}" for name, version in row["versions"].items()),
        f"{row['executions']:,} executions in {row['seconds']:,.0f} s, {row['per_s']:,.0f} a second",
        f"coverage {row['cov']} counters, {row['ft']} features, corpus {row['corpus_inputs']} inputs",
        f"slowest load {row['slowest_load_s']:.3f} s; {row['kinds_of_refusal']} kinds of refusal",
        *(f"{name:<40} {count:>12,}" for name, count in sorted(told["counts"].items())),
        f"findings {len(row['findings'])}, deaths of the process {len(row['deaths'])}",
        *(
            f"  {one['exception']} at {one['where']}, {one['input_bytes']} bytes: {one['said']}"
            for one in row["findings"]
        ),
        *(f"  code {one['code']}: {one['said']}" for one in row["deaths"]),
    ]
    save("fuzz", [row], "\n".join(lines))


if __name__ == "__main__":
    main()
