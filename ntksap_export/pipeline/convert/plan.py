"""Which file becomes which, found before anything is written: what would overwrite its source is refused here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntksap_export.atomic import check_replaceable
from ntksap_export.checkpoint.formats import format_of
from ntksap_export.checkpoint.formats.files import is_index, is_mask_file, read_index
from ntksap_export.checkpoint.shards import INDEX_SUFFIX, index_of, to_remove
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.pipeline.convert.kinds import GRAPH, REWRITES, kind_of, pieces, target_of
from ntksap_export.pipeline.convert.options import MEANINGS, SUFFIXES, ConvertOptions
from ntksap_export.pipeline.convert.record import read_record

_WEIGHTS = frozenset((*MEANINGS, ".ckpt", ".tar"))  # suffixes that promise weights: damaged ones are said, not skipped


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion.

    Attributes:
        source: what is read.
        kind: what it is; None for what is no checkpoint, which fails when its turn comes.
        output: what is written.
        to: a key of `SUFFIXES`.
    """

    source: Path
    kind: str | None
    output: Path
    to: str


def plan(sources: Sequence[Path], target: str, options: ConvertOptions) -> list[Job]:
    """The conversions of one command, in the order of its sources.

    Args:
        sources: checkpoints, graphs, or directories of them.
        target: a path; a directory for several sources, or where it ends with a slash or is one.
        options: `to` decides, or the target's suffix.

    Raises:
        ConfigError: no format, two outputs of one name, an output that is a source or a device, a flag of another
            format.
        CheckpointError: a directory without a checkpoint, or an output beside another program's index of it.
    """
    found = [inner for source in sources for inner in _expanded(source)]
    path = Path(target)
    if len(found) > 1 or found != list(sources):
        to = _several(path, options)
        outputs = [path / _name(source, to) for source in found]
    else:
        to, output = _single(found[0], path, target.endswith("/"), options)
        outputs = [output]
    options.check_for(to)
    jobs = [Job(source, kind_of(source), output, to) for source, output in zip(found, outputs, strict=True)]
    _check_outputs(jobs)
    for job in jobs:
        _check_apart(job, [*sources, *found])
        if job.kind is not None and not (job.kind == GRAPH and to in REWRITES):
            target_of(to)
    return jobs


def _expanded(source: Path) -> list[Path]:
    if not source.is_dir() or format_of(source) is not None:
        return [source]
    inside = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    shards = {shard for path in inside if path.is_file() and is_index(path) for shard in _shards(path)}
    found = [path for path in inside if path not in shards and _is_checkpoint(path)]
    if not found:
        raise CheckpointError(f"'{source}' holds no checkpoint, nor is it one; name a file or a folder of them")
    return found


def _shards(path: Path) -> set[Path]:
    try:
        return set(read_index(path).values())
    except CheckpointError:
        return set()  # its turn will come


def _is_checkpoint(path: Path) -> bool:
    if path.is_dir():
        return format_of(path) is not None
    return (path.suffix in _WEIGHTS or kind_of(path) is not None) and not is_mask_file(path)


def _several(target: Path, options: ConvertOptions) -> str:
    if target.is_file() or (target.suffix in MEANINGS and not target.is_dir()):
        raise ConfigError(f"several sources need a directory as TARGET; got '{target}'")
    return options.to or "ntksap"


def _single(source: Path, target: Path, slash: bool, options: ConvertOptions) -> tuple[str, Path]:
    if slash or target.is_dir():
        to = options.to or "ntksap"
        itself = not slash and SUFFIXES[to] == "" and _is_replaceable(target, to)
        return to, target if itself else target / _name(source, to)
    if target.name.endswith(INDEX_SUFFIX):
        checkpoint = target.name.removesuffix(INDEX_SUFFIX)
        raise ConfigError(f"'{target}' is the name of an index; name the checkpoint, '{checkpoint}'")
    meanings = MEANINGS.get(target.suffix)
    to = options.to or (meanings[0] if meanings else "")
    if not to:
        raise ConfigError(f"'{target}' does not say what to write; name it with --to ({', '.join(SUFFIXES)})")
    if meanings and to not in meanings:
        raise ConfigError(f"'{target}' says {meanings[0]} and --to says {to}; give it another suffix")
    if SUFFIXES[to] == "" and target.exists():
        raise ConfigError(f"'{target}' is a file, and {to} is a folder; name another TARGET")
    return to, target


def _is_replaceable(folder: Path, to: str) -> bool:
    return format_of(folder) == to or read_record(folder) is not None or not any(folder.iterdir())


def _name(source: Path, to: str) -> str:
    """The source's name with another suffix: `a.pt` -> `a.safetensors`, `b.safetensors.index.json` -> `b.pt`."""
    name = source.resolve().name if source.name in ("", "..") else source.name
    if source.is_dir():
        return name + SUFFIXES[to]
    name = name.removesuffix(".index.json")
    return Path(name).stem + SUFFIXES[to]


def _check_outputs(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job.source)
        if other is not job.source:
            raise ConfigError(f"'{other}' and '{job.source}' would both be '{job.output}'; convert them apart")
        try:
            check_replaceable(job.output)
        except OSError as error:
            raise ConfigError(f"'{job.output}': {error.strerror}; name another TARGET") from error
        to_remove(job.output)


def _check_apart(job: Job, sources: Sequence[Path]) -> None:
    """Refuse an output that is one of the sources, lies in one, or holds one; links are followed."""
    output = _real(job.output)
    for source in sources:
        real = _real(source)
        if real in (output, _real(index_of(job.output))):
            raise ConfigError(f"'{job.output}' is a source too and would be overwritten; name another TARGET")
        if source.is_dir() and output.is_relative_to(real):
            raise ConfigError(f"'{job.output}' lies in the source '{source}'; name a TARGET outside of it")
        if real.is_relative_to(output):
            raise ConfigError(
                f"'{job.output}' holds the source '{source}' and would be overwritten; name another TARGET"
            )
    if job.output.exists():
        for source in sources:
            for piece in _pieces(source):
                if piece.exists() and piece.samefile(job.output):
                    raise ConfigError(f"'{job.output}' is the file '{piece}' of a source; name another TARGET")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises where links lead in a circle


def _pieces(source: Path) -> tuple[Path, ...]:
    try:
        return (source,) if (kind := kind_of(source)) is None else pieces(source, kind)
    except CheckpointError:
        return (source,)
