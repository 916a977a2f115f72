"""Any byte changed or cut off, in any format of one file: a checkpoint or a CheckpointError, never anything else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntksap_export.checkpoint.formats import dense, format_of, open_source, ours, recognise, torch_file
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError

from .memory_source import MemorySource, everything, pruned, source_of

SOURCE = MemorySource({"fc.weight": pruned((6, 9), 0.3), **source_of(n=torch.tensor(3), b=torch.ones(4).half()).values})


def legacy(path: Path, source: Source, provenance: None) -> None:
    state = {name: source.read(name).tensor for name in source.names()}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)


def torch_prune(path: Path, source: Source, provenance: None) -> None:
    torch_file.write(path, source, provenance, masks=True)


WRITERS: dict[str, Callable[[Path, Source, None], None]] = {
    "ntksap": ours.write,
    "safetensors": dense.write,
    "torch": torch_prune,
    "legacy": legacy,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name, write in WRITERS.items():
        write(folder / name, SOURCE, None)
    return {name: (folder / name).read_bytes() for name in WRITERS}


def look(path: Path) -> str:
    try:
        recognise(path)
        with open_source(path) as source:
            everything(source)
    except CheckpointError as error:
        assert 1 == len(str(error).splitlines())
        assert 1 == str(error).count(str(path))
        return "refused"
    return "read"


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_whole_is_read(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    (tmp_path / "file").write_bytes(whole[name])

    assert ("read", name.replace("legacy", "torch")) == (look(tmp_path / "file"), format_of(tmp_path / "file"))


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_a_changed_byte(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    content = bytearray(whole[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path_factory.mktemp("damaged") / "file"
    damaged.write_bytes(content)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look(damaged) in ("read", "refused")


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_cut_off_end(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(whole[name][: data.draw(st.integers(0, len(whole[name]) - 1))])

    assert "refused" == look(path)
