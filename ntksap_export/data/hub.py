"""Data sets of Hugging Face on disk: a DatasetDict written by `save_to_disk`, or parquet files by split.

    FOLDER/dataset_dict.json, FOLDER/train/*.arrow, FOLDER/test/*.arrow       mapped, read in place, of any size
    FOLDER/train-*.parquet, FOLDER/test-*.parquet (or in FOLDER/data)         packed in groups of rows: read whole

Images are encoded bytes, in a column of their own or beside a path; labels are numbers, whose names the schema has.
Needs pyarrow (the extra `hf`), not `datasets`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.data.files import Index, Labels
from ntksap_export.data.spec import MAX_CLASSES
from ntksap_export.errors import DataError
from ntksap_export.optional import load

PARQUET_LIMIT_BYTES: Final = 4_000_000_000
_VALIDATION = ("validation", "val", "valid", "test")
_IMAGE_NAMES = ("image", "img", "jpg", "png")
_LABEL_NAMES = ("label", "labels", "fine_label", "cls")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns to read.

    Attributes:
        image: name of the column of images.
        within: whether its bytes lie in a field of it called `bytes`.
        label: name of the column of labels.
        classes: names of the classes, if the schema has them.
    """

    image: str
    within: bool
    label: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class ArrowFiles:
    """Images in a column of Arrow or parquet files.

    Args:
        paths: the files.
        columns: which columns.
        places: int64 (images, 2): number of the file, and row in it.
        labels: one per image.
    """

    paths: tuple[Path, ...]
    columns: _Columns
    places: npt.NDArray[np.int64]
    labels: Labels
    _open: dict[int, Any] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[type[ArrowFiles], tuple[Any, ...]]:
        """Leave the open files behind: another process opens its own."""
        return (ArrowFiles, (self.paths, self.columns, self.places, self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """The encoded image at position `index`."""
        file, row = self.places[index].tolist()
        column = self._open.get(file)
        if column is None:
            column = self._open[file] = _read(self.paths[file], [self.columns.image]).column(0)
        value = column[row].as_py()
        content = value.get("bytes") if self.columns.within and value else value
        if not isinstance(content, bytes):
            raise ValueError("it has no bytes here, only a path or nothing")
        return content

    def where(self, index: int) -> str:
        """Its file and its row."""
        file, row = self.places[index].tolist()
        return f"{self.paths[file]}: row {row}"


def is_saved(root: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


def parquet_home(root: Path) -> Path | None:
    """The folder that holds train-*.parquet, `root` or `root`/data, if there are any."""
    return next((home for home in (root, root / "data") if any(home.glob("train-*.parquet"))), None)


def read_saved(root: Path) -> Index:
    """List the images of a saved DatasetDict, nothing decoded.

    Raises:
        UnavailableError: pyarrow is not installed.
        DataError: it is one split alone, lacks a split or a column, or is damaged.
    """
    if not (root / "dataset_dict.json").is_file():
        raise DataError(f"'{root}' holds one split; save a DatasetDict with train and test (or validation)")
    names = _json(root / "dataset_dict.json").get("splits")
    splits = names if isinstance(names, list) else []
    val = next((name for name in _VALIDATION if name in splits), None)
    if "train" not in splits or val is None:
        raise DataError(f"'{root}' has the splits {splits}; it needs train, and validation or test")
    return _index(root, _saved_split(root / "train"), _saved_split(root / val))


def read_parquet(home: Path, root: Path) -> Index:
    """List the images of parquet files, nothing decoded.

    Args:
        home: the folder of the files.
        root: the folder that the user named.

    Raises:
        UnavailableError: pyarrow is not installed.
        DataError: no files for validation, too large, a column is missing, or a file is damaged.
    """
    val = next((found for name in _VALIDATION if (found := sorted(home.glob(f"{name}-*.parquet")))), None)
    if val is None:
        raise DataError(f"'{home}' has train-*.parquet but no validation-*.parquet or test-*.parquet; add them")
    train = sorted(home.glob("train-*.parquet"))
    _check_size(root, [*train, *val])
    return _index(root, train, val)


def _saved_split(folder: Path) -> list[Path]:
    state = _json(folder / "state.json")
    files = [item.get("filename") for item in state.get("_data_files") or [] if isinstance(item, dict)]
    if not files or state.get("_indices_files") or not all(isinstance(file, str) for file in files):
        raise DataError(f"'{folder / 'state.json'}' names no files of its own; write it again with save_to_disk")
    return [folder / Path(str(file)).name for file in files]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist; write the data set again with save_to_disk") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is not JSON ({error}); write the data set again with save_to_disk") from None
    return value if isinstance(value, dict) else {}


def _index(root: Path, train: list[Path], val: list[Path]) -> Index:
    columns = _columns(train[0])
    for path in (*train[1:], *val):
        _check_alike(path, _columns(path), train[0], columns)
    train_files, val_files = _files(train, columns), _files(val, columns)
    classes = columns.classes
    if classes is None:
        largest = int(train_files.labels.max(initial=-1))
        if largest >= MAX_CLASSES:
            raise DataError(f"'{root}' has label {largest}; labels are class numbers from 0 on: number the classes")
        classes = tuple(str(label) for label in range(largest + 1))
    return Index(root.resolve().name, classes, train_files, val_files)


def _check_alike(path: Path, columns: _Columns, first: Path, wanted: _Columns) -> None:
    """Labels of one file must mean in another what they mean there; a file may leave the names out."""
    for what, name in (("images", "image"), ("labels", "label")):
        got, want = getattr(columns, name), getattr(wanted, name)
        if got != want:
            raise DataError(f"the column of {what} is '{got}' in '{path}' and '{want}' in '{first}'; call it '{want}'")
    if columns.classes not in (None, wanted.classes):
        raise DataError(
            f"'{path}' names or orders its classes otherwise than '{first}'; write both with the same names"
        )


def _files(paths: list[Path], columns: _Columns) -> ArrowFiles:
    places, labels = [], []
    for number, path in enumerate(paths):
        column = _read(path, [columns.label]).column(0)
        if column.null_count:
            raise DataError(f"'{path}' has {column.null_count} row(s) without '{columns.label}'; leave them out")
        rows = np.arange(len(column), dtype=np.int64)
        places.append(np.stack([np.full_like(rows, number), rows], axis=1))
        labels.append(column.to_numpy().astype(np.int64))
    return ArrowFiles(tuple(paths), columns, np.concatenate(places), np.concatenate(labels))


def _columns(path: Path) -> _Columns:
    schema = _schema(path)
    image = _choose(path, "images", [n for n in schema.names if _has_bytes(schema.field(n).type)], _IMAGE_NAMES)
    named = _class_labels(path, schema)
    numbers = [name for name in schema.names if str(schema.field(name).type).removeprefix("u").startswith("int")]
    label = _choose(path, "labels", [name for name in numbers if not named or name in named], _LABEL_NAMES)
    names = named.get(label, {}).get("names")
    classes = tuple(str(name) for name in names) if isinstance(names, list) else None
    return _Columns(image, str(schema.field(image).type).startswith("struct"), label, classes)


def _class_labels(path: Path, schema: Any) -> dict[str, dict[str, Any]]:
    """The columns that the schema's metadata calls class labels, and what it says of them."""
    with _readable(path):
        value = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for key in ("info", "features"):
        value = value.get(key) if isinstance(value, dict) else None
    features = value.items() if isinstance(value, dict) else ()
    return {name: item for name, item in features if isinstance(item, dict) and item.get("_type") == "ClassLabel"}


def _has_bytes(kind: Any) -> bool:
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct") and "bytes: binary" in text)


def _choose(path: Path, what: str, candidates: list[str], usual: tuple[str, ...]) -> str:
    if len(candidates) == 1:
        return candidates[0]
    chosen = next((name for name in usual if name in candidates), None)
    if chosen is None:
        got = f"could be {', '.join(candidates)}" if candidates else "is not there"
        raise DataError(f"the column of {what} in '{path}' {got}; call it '{usual[0]}'")
    return chosen


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn pyarrow's complaints about a file into one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"'{path}' does not exist; fetch or write the data set again") from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own are ValueErrors, and OSErrors for cut files
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"'{path}' is truncated or damaged ({reason}); fetch or write it again") from error


def _schema(path: Path) -> Any:
    with _readable(path):
        if path.suffix == ".parquet":
            return load("pyarrow.parquet", "hf").read_schema(path)
        return _table(path).schema


def _read(path: Path, columns: list[str]) -> Any:
    """Some columns of a file as an Arrow table, whose offsets are known to lie within it."""
    with _readable(path):
        if path.suffix == ".parquet":
            return load("pyarrow.parquet", "hf").read_table(path, columns=columns, use_threads=False)
        table = _table(path).select(columns)
        table.validate(full=True)
        return table


def _table(path: Path) -> Any:
    arrow = load("pyarrow", "hf")
    return arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all()


def _check_size(root: Path, paths: list[Path]) -> None:
    total = 0
    for path in paths:
        with _readable(path):
            metadata = load("pyarrow.parquet", "hf").read_metadata(path)
            total += sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if total > PARQUET_LIMIT_BYTES:
        raise DataError(
            f"'{root}' has {total:,} bytes in parquet, which are read whole, up to {PARQUET_LIMIT_BYTES:,}; load it "
            "once with `datasets` and write it with save_to_disk"
        )
