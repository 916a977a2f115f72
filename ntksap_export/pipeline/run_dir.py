"""An output directory: what was finished there, under which settings, and whether it is still whole.

What the user sees lies in the directory itself; what a resumed run needs lies in `.ntksap/` inside it.
A stage is finished when its record says so and each of its files still has the recorded digest. Settings decide what
may be taken over: a stage's fingerprint covers its own keys and those of the stages before it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ntksap_export.atomic import json_digest, remove_leftovers, write_json
from ntksap_export.config import STAGE_KEYS, RunConfig, flag_name
from ntksap_export.errors import RunDirectoryError
from ntksap_export.pipeline.snapshots import snapshot_files
from ntksap_export.pipeline.stage_keys import keys_of, usual_of
from ntksap_export.training.checkpoints import forget_states

STAGES = ("prune", "train", "export", "profile", "report")
IDENTITY = (
    "prune",
    "train",
)  # other settings here make it another run; the later stages are simply made again
_HOME = ".ntksap"


class RunDir:
    """One output directory.

    Args:
        path: need not exist; nothing is created before `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, dict[str, Any]] = self._read_records()

    def file(self, name: str) -> Path:
        """A file that the user sees."""
        return self.path / name

    def record(self, name: str) -> Path:
        """A file that only a later run reads."""
        return self.path / _HOME / name

    @property
    def training_states(self) -> Path:
        """What an interrupted training goes on from: a directory."""
        return self.path / _HOME / "training"

    @property
    def search_states(self) -> Path:
        """What an interrupted search for the mask goes on from: a directory."""
        return self.path / _HOME / "search"

    @property
    def workspace(self) -> Path:
        """A place for files that live only while a stage runs."""
        return self.path / _HOME / "work"

    def exists(self) -> bool:
        """Whether a run was ever begun here."""
        return bool(self._records)

    def is_held(self) -> bool:
        """Whether an ntksap ever worked here, on a run or on what holds several."""
        return (self.path / _HOME).is_dir()

    def check(self, config: RunConfig, stages: Sequence[str], overwrite: bool) -> None:
        """Refuse a directory that holds something else; changes nothing.

        Raises:
            RunDirectoryError: another run, or files that no run made; says what differs.
        """
        if overwrite:
            return
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"'{self.path}' is a file; choose another --out")
        if not self.exists() and self.path.is_dir() and any(self._foreign_files()):
            raise RunDirectoryError(
                f"'{self.path}' is not empty and holds no run of ntksap; choose another --out or pass --overwrite"
            )
        for stage in stages:
            # A prune stage that never ended left nothing worth guarding.
            if stage in IDENTITY and stage in self._records and (stage != "prune" or self.finished("prune")):
                self._check_same(stage, config)

    def check_begun(self, stage: str) -> None:
        """Refuse to go on with what was never begun.

        Raises:
            RunDirectoryError: `stage` was not begun here.
        """
        if stage not in self._records:
            raise RunDirectoryError(
                f"'{self.path}' holds no {stage} stage to go on with; leave --resume away to begin one"
            )

    def _check_same(self, stage: str, config: RunConfig) -> None:
        # A key that the record lacks came with a later version, which then had its default.
        now = keys_of(stage, config)
        before = {**usual_of(stage), **self._records[stage]["keys"]}
        different = [key for key in now if before[key] != now[key]]
        if different:
            shown = "; ".join(
                f"{flag_name(key)} is {_shown(before[key])} there, {_shown(now[key])} here" for key in different[:3]
            )
            raise RunDirectoryError(
                f"'{self.path}' holds a different run: {shown}; choose another --out or pass --overwrite"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; creates it.

        Raises:
            RunDirectoryError: another process is working there.
        """
        home = self.path / _HOME
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunDirectoryError(f"another ntksap is working in '{self.path}'; wait for it to end") from None
            remove_leftovers(self.path)
            remove_leftovers(home)
            shutil.rmtree(self.workspace, ignore_errors=True)
            self._records = self._read_records()
            try:
                yield
            finally:
                shutil.rmtree(self.workspace, ignore_errors=True)

    def is_done(self, stage: str, config: RunConfig) -> bool:
        """Whether `stage` was finished with these settings and its files are unchanged."""
        record = self._records.get(stage, {})
        if record.get("fingerprint") != fingerprint(stage, config) or not record.get("done"):
            return False
        if not self.file("config.json").is_file():
            return False
        files: dict[str, str] = record["files"]
        return all(self.file(name).is_file() and digest(self.file(name)) == value for name, value in files.items())

    def finished(self, stage: str) -> bool:
        """Whether `stage` was ever finished here, whatever the settings."""
        return bool(self._records.get(stage, {}).get("done"))

    def begin(self, stage: str, config: RunConfig) -> None:
        """Record that `stage` starts with these settings; what later stages made no longer counts.

        Files of another mask or training are moved to `.ntksap/stale`, so that nobody takes them for this one's. A
        training that was begun under the same settings is kept, to go on from.
        """
        changed = self._records.get(stage, {}).get("fingerprint") != fingerprint(stage, config)
        if stage in IDENTITY and changed:
            forget_states(self.training_states)
            if stage == "prune":
                shutil.rmtree(self.search_states, ignore_errors=True)
            self._set_aside(str(file.relative_to(self.path)) for file in snapshot_files(self.path).values())
            (self.path / _HOME / "train.pt").unlink(missing_ok=True)  # of version 0.1 before it had several states
        for later in STAGES[STAGES.index(stage) + 1 :]:
            record = self._records.pop(later, {})
            self._set_aside(record.get("files", ()) if stage in IDENTITY else ())
        self._records[stage] = {
            "keys": keys_of(stage, config) if stage in STAGE_KEYS else {},
            "fingerprint": fingerprint(stage, config),
            "done": False,
        }
        self._write_records()

    def _set_aside(self, files: Iterable[str]) -> None:
        aside = self.path / _HOME / "stale"
        for name in files:
            if self.file(name).is_file():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                self.file(name).replace(aside / name)

    def finish(self, stage: str, files: Iterable[str]) -> None:
        """Record that `stage` is done and what its files are."""
        self._records[stage] |= {"done": True, "files": {name: digest(self.file(name)) for name in files}}
        self._write_records()
        if stage == "train":
            forget_states(self.training_states, but_best=True)
        if stage == "prune":
            shutil.rmtree(self.search_states, ignore_errors=True)

    def settings_of(self, stage: str) -> dict[str, Any]:
        """The settings that `stage` was last run with, of its own keys; empty where it was not."""
        return dict(self._records.get(stage, {}).get("keys", {}))

    def stored_config(self) -> dict[str, Any]:
        """The settings that config.json holds, by flag.

        Raises:
            RunDirectoryError: there is none, or it is not ours.
        """
        return dict(self.read_json("config.json")["ntksap"]["config"])

    def stored_settings(self) -> dict[str, Any]:
        """The same by keys of `RunConfig`, as `make_config` takes them."""
        return {key.replace("-", "_"): value for key, value in self.stored_config().items()}

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file that a stage wrote.

        Raises:
            RunDirectoryError: it is missing or broken; says which stage makes it.
        """
        path = self.file(name)
        maker = _MAKERS.get(name, "prune")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunDirectoryError(f"'{self.path}' has no {name}; run `ntksap {maker}` first") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunDirectoryError(f"'{path}' is not JSON ({error}); run `ntksap {maker}` again") from None
        if not isinstance(value, dict) or (name == "config.json" and "config" not in value.get("ntksap", {})):
            raise RunDirectoryError(f"'{path}' was not written by ntksap; run `ntksap {maker}` again")
        return value

    def _foreign_files(self) -> Iterator[Path]:
        return (path for path in self.path.iterdir() if path.name != _HOME)

    def _read_records(self) -> dict[str, dict[str, Any]]:
        try:
            records = json.loads((self.path / _HOME / "state.json").read_text())
        except (OSError, json.JSONDecodeError):
            return {}
        if not isinstance(records, dict) or not all(_is_record(record) for record in records.values()):
            return {}
        return records

    def _write_records(self) -> None:
        write_json(self.path / _HOME / "state.json", self._records)


_MAKERS = {
    "config.json": "prune",
    "mask.json": "prune",
    "metrics.json": "train",
    "parity.json": "export",
    "profile.json": "profile",
}


def fingerprint(stage: str, config: RunConfig) -> str:
    """SHA-256 over the settings of `stage` and of those before it that differ from their defaults.

    Settings that a later version adds do not change the fingerprint of a run that does not use them.
    """
    keys = {}
    for name in STAGES[: STAGES.index(stage) + 1]:
        if name in STAGE_KEYS:
            usual = usual_of(name)
            keys[name] = {key: value for key, value in keys_of(name, config).items() if value != usual[key]}
    return json_digest(keys)


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON object that stands outside a run directory.

    Raises:
        RunDirectoryError: it is missing or broken.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"'{path}' cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise RunDirectoryError(f"'{path}' was not written by ntksap")
    return value


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_record(value: Any) -> bool:
    """Whether a value read from state.json has the form of a stage's record."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("keys"), dict)
        and isinstance(value.get("fingerprint"), str)
        and isinstance(value.get("files", {}), dict)
    )
