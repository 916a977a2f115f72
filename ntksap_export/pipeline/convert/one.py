"""One conversion: read tensor by tensor, written beside, compared, and put in its place; or nothing at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ntksap_export import atomic
from ntksap_export.checkpoint.digest import digest
from ntksap_export.checkpoint.formats import recognise
from ntksap_export.checkpoint.formats.folding import common_prefix
from ntksap_export.checkpoint.provenance import library_versions
from ntksap_export.checkpoint.shards import index_of, to_remove
from ntksap_export.errors import OS_ERROR_EXIT_CODE, CheckpointError, NtksapError
from ntksap_export.graph import SPARSE_WARNING, remove_old_data
from ntksap_export.pipeline.convert.changes import Counted, changed
from ntksap_export.pipeline.convert.compare import check_same
from ntksap_export.pipeline.convert.kinds import GRAPH, REWRITES, WRAPPED, Target, kind_of, open_kind, pieces, target_of
from ntksap_export.pipeline.convert.masks import mask_digest, open_masks
from ntksap_export.pipeline.convert.options import ConvertOptions
from ntksap_export.pipeline.convert.plan import Job
from ntksap_export.pipeline.convert.record import Record, output_files, read_record, write_record


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one conversion ended.

    Attributes:
        job: which; where it became several files, its output is their index.
        status: converted, unchanged (it was done before, of the same content) or failed.
        bytes_in: of the source's files; None where it failed.
        bytes_out: of the output's files; None where it failed.
        sparsity: 1 - density over the tensors that have a mask; None where none has.
        sha256: of the output, as `checkpoint.digest` has it.
        error: one line; None where it did not fail.
        exit_code: 0, or that of the error.
        notes: warnings, a line each.
    """

    job: Job
    status: str
    bytes_in: int | None = None
    bytes_out: int | None = None
    sparsity: float | None = None
    sha256: str | None = None
    error: str | None = None
    exit_code: int = 0
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times smaller the output is."""
        return self.bytes_in / self.bytes_out if self.bytes_in is not None and self.bytes_out else None

    def to_json(self) -> dict[str, Any]:
        """One line of `ntksap convert --json`."""
        return {
            "input": str(self.job.source),
            "output": str(self.job.output),
            "from": self.job.kind,
            "to": self.job.to,
            "status": self.status,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "sparsity": self.sparsity,
            "sha256": self.sha256,
            "notes": list(self.notes),
            "error": self.error,
        }


def attempt(job: Job, options: ConvertOptions) -> Outcome:
    """Convert one file; what is the user's to mend becomes an outcome, and the output is left as it was."""
    try:
        return convert_one(job, options)
    except NtksapError as error:
        return _failed(job, str(error), error.exit_code)
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        said = f"cannot write or read{where}: {error.strerror or error}; free space or choose another TARGET"
        return _failed(job, said, OS_ERROR_EXIT_CODE)
    except MemoryError:
        return _failed(job, "its largest tensor does not fit into memory", NtksapError.exit_code)


def _failed(job: Job, said: str, exit_code: int) -> Outcome:
    staged = str(_staging(job.output) / job.output.name)
    line = " ".join(said.replace(staged, str(job.output)).split())
    text = line if str(job.source) in line else f"{job.source}: {line}"
    return Outcome(job, "failed", error=text, exit_code=exit_code)


def convert_one(job: Job, options: ConvertOptions) -> Outcome:
    """Convert one file, unless the output is of the same content already.

    Raises:
        NtksapError: the source is damaged or the target cannot hold it; the output is left as it was.
        OSError: the disk is full.
    """
    kind = job.kind or recognise(job.source)
    files = pieces(job.source, kind)
    before = _states(files)
    wanted = options.fingerprint(job.to, mask_digest(options.mask))
    source_digest, bytes_in = digest(files), sum(file.stat().st_size for file in files)
    version = library_versions()["ntksap-export"]
    if (old := read_record(job.output)) is not None:
        known = (old.source, dict(old.options), old.version) == (source_digest, wanted, version)
        if known and (old.checked or not options.check) and (there := output_files(job.output, old)) is not None:
            size = sum(file.stat().st_size for file in there)
            job = replace(job, output=_opened(there, job.output))
            return Outcome(job, "unchanged", bytes_in, size, old.sparsity, old.output)
    with _beside(job.output) as staged:
        graph = job.to in REWRITES and kind == GRAPH
        sparsity, notes = _rewrite(job, options, staged) if graph else _write(job, kind, options, staged)
        if _states(files) != before:
            raise CheckpointError(f"{job.source} changed while it was read; convert it again")
        written = _put(staged, job.output)
    done = Record(source_digest, wanted, version, _names(written, job.output), digest(written), options.check, sparsity)
    write_record(job.output, done)
    if graph:
        remove_old_data(job.output, written)
    size = sum(file.stat().st_size for file in written)
    job = replace(job, output=_opened(written, job.output))
    return Outcome(job, "converted", bytes_in, size, sparsity, done.output, notes=notes)


def _rewrite(job: Job, options: ConvertOptions, staged: Path) -> tuple[float | None, tuple[str, ...]]:
    """Store a graph otherwise and compare; gives the sparsity of what is stored sparse, and warnings."""
    changed_names = REWRITES[job.to](job.source, staged)
    with open_kind(job.source, GRAPH) as source, open_kind(staged, GRAPH) as again:
        counted = Counted(again)
        if options.check:
            check_same(source, counted, False, job.to)
        else:
            for name in changed_names:
                counted.read(name)
    warned = job.to == "onnx-sparse" and changed_names
    return counted.sparsity, (f"{job.output}: {SPARSE_WARNING}",) if warned else ()


def _write(job: Job, kind: str, options: ConvertOptions, staged: Path) -> tuple[float | None, tuple[str, ...]]:
    """Write to `staged` and compare; gives the sparsity, and warnings."""
    target = target_of(job.to)
    with ExitStack() as opened:
        source = opened.enter_context(open_kind(job.source, kind))
        masks = None if options.mask is None else opened.enter_context(open_masks(options.mask))
        counted = Counted(changed(source, options, masks))
        if not counted.names():
            raise CheckpointError(f"{job.source} holds no tensors")
        target.write(staged, counted, counted.provenance, options)
        if options.check:
            openable = _openable(staged)
            found = kind_of(openable)
            if found != target.format:
                raise CheckpointError(f"what was written for {job.output} is read as {found}; please report this")
            with target.reopen(openable) as again:
                check_same(counted, again, target.keeps_masks, job.to)
        return counted.sparsity, _warnings(job, target, counted)


def _warnings(job: Job, target: Target, written: Counted) -> tuple[str, ...]:
    notes = []
    if written.sparsity is not None and not target.keeps_masks:
        notes.append(f"{job.output}: {job.to} has no place for masks; only their zeros are left")
    if target.format in WRAPPED and (prefix := common_prefix(written.names())):
        notes.append(f"{job.output}: all names begin with '{prefix}', which ntksap takes for a wrapper's when it reads")
    return tuple(notes)


def _openable(staged: Path) -> Path:
    """What was written: the path itself, or the index where it became shards."""
    return staged if staged.exists() else next(iter(sorted(staged.parent.glob("*.index.json"))), staged)


def _opened(files: Sequence[Path], output: Path) -> Path:
    """The one of the output's files that is opened: the output itself, or its index."""
    index = index_of(output)
    return index if index in files else output


def _put(staged: Path, output: Path) -> tuple[Path, ...]:
    """Move what lies beside into its place, the file that is opened last; gives the output's files.

    What it replaces goes after that: of several files, those that the index at hand binds; of one, the file.
    """
    before = () if staged.is_dir() else (*to_remove(output), output)
    parts = sorted(staged.parent.iterdir(), key=lambda path: path.name in (staged.name, _openable(staged).name))
    for part in parts:
        if part.is_dir() and output.is_dir():
            _check_nothing_lost(part, output)
        atomic.sync_tree(part)
    written: list[Path] = []
    for part in parts:
        final = output.with_name(part.name)
        names = sorted(file.relative_to(part) for file in part.rglob("*") if file.is_file()) if part.is_dir() else []
        atomic.replace(part, final)
        written += [final / name for name in names] or [final]
    for path in before:
        if path not in written:
            path.unlink(missing_ok=True)
    return tuple(written)


def _check_nothing_lost(new: Path, old: Path) -> None:
    """Refuse to replace a folder that holds what neither this conversion writes nor the recorded one has written."""
    record = read_record(old)
    known = {path.name for path in new.iterdir()} | {Path(name).name for name in (record.files if record else ())}
    if lost := sorted({path.name for path in old.iterdir()} - known):
        raise CheckpointError(f"'{old}' holds '{lost[0]}', which would be lost; name another TARGET")


def _names(files: Sequence[Path], output: Path) -> tuple[str, ...]:
    return tuple(str(file.relative_to(output.parent)) for file in files)


def _states(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    found = [file.stat() for file in files]
    return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in found]


def _staging(output: Path, process: int | None = None) -> Path:
    return output.with_name(f".{output.name}.{os.getpid() if process is None else process}.part")


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A path of the output's own name, in a directory beside it that is gone afterwards."""
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead(output)
    staging = _staging(output)
    staging.mkdir()
    try:
        yield staging / output.name
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_dead(output: Path) -> None:
    """Remove what processes that were killed left beside the output."""
    for path in output.parent.iterdir():
        middle = path.name.removeprefix(f".{output.name}.").removesuffix(".part")
        if path == _staging(output, int(middle) if middle.isdigit() else -1) and not _lives(int(middle)):
            shutil.rmtree(path, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
