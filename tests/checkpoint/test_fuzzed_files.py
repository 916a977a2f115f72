"""Files damaged at random: our error with the file's name, or something that can be saved and loaded unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntksap_export.checkpoint import SparseCheckpoint, describe
from ntksap_export.checkpoint.container import METADATA_KEY
from ntksap_export.errors import CheckpointError

from .checkpoint_cases import UNHURRIED, checkpoint_of_net, content, document_of, joined, split, two_of_four

SOUND = [checkpoint_of_net().to_bytes(encoding) for encoding in ("auto", "bitmask", "gap", "bitmask-zstd")]
SOUND.append(two_of_four().to_bytes())


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@UNHURRIED
@given(data=st.data())
def test_damage_is_told_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SOUND), label="file"))
    # Most of the file is header, so that flips fall on names, numbers and braces as well as on values.
    for _ in range(data.draw(st.integers(0, 3), label="flips")):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))), label="end")
    path = written(tmp_path_factory.mktemp("damage") / "model.safetensors", bytes(damaged[:end]))

    check_told_or_harmless(path)


@UNHURRIED
@given(data=st.data())
def test_wrong_words_in_the_header_are_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    header, rest = split(data.draw(st.sampled_from(SOUND), label="file"))
    values: st.SearchStrategy[Any] = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**64), 2**64), st.text(max_size=3), st.just([])
    )
    document = document_of(header)
    target: Any = data.draw(st.sampled_from([header, document, document["tensors"], document["provenance"]]))
    key = data.draw(st.sampled_from(sorted(target)))
    if isinstance(target[key], dict) and target[key] and data.draw(st.booleans()):
        target, key = target[key], data.draw(st.sampled_from(sorted(target[key])))
    target[key] = data.draw(st.one_of(values, st.lists(values, max_size=4)))
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"] = {METADATA_KEY: json.dumps(document)}
    path = written(tmp_path_factory.mktemp("words") / "model.safetensors", joined(header, rest))

    check_told_or_harmless(path)


def check_told_or_harmless(path: Path) -> None:
    """Load raises our error only, or gives something that can be saved and loaded again unchanged."""
    try:
        loaded = SparseCheckpoint.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    assert loaded.size_report().dense_bytes == describe(path).dense_bytes
    again = path.with_name("again.safetensors")
    loaded.save(again)
    assert content(loaded) == content(SparseCheckpoint.load(again))
