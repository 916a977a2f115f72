"""The files beside a graph that let another runtime be checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ntksap_export.graph import Graph, export
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.samples import write_samples
from tests.support.nets import TinyNet, tiny_net

FILES = tuple(f"{folder}/batch{count}.npz" for count in (1, 2) for folder in ("sample_inputs", "sample_outputs"))


@pytest.fixture(scope="module")
def model() -> TinyNet:
    return tiny_net()


@pytest.fixture(scope="module")
def graph(model: TinyNet) -> Graph:
    return export(model, torch.zeros(1, 3, 8, 8))


def _images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 8, 8), dtype=np.float32)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_samples_hold_inputs_and_the_answers_to_them(model: TinyNet, graph: Graph, tmp_path: Path) -> None:
    files = write_samples(tmp_path, model, graph, _images(4))

    assert FILES == files
    assert set(files) == set(_contents(tmp_path))
    with OrtSession(graph.to_bytes()) as session:
        for count in (1, 2):
            with np.load(tmp_path / f"sample_inputs/batch{count}.npz") as given:
                assert ["images"] == given.files
                images = given["images"]
            with np.load(tmp_path / f"sample_outputs/batch{count}.npz") as right:
                assert ["logits"] == right.files
                assert (count, 3) == right["logits"].shape
                np.testing.assert_allclose(session.run(images), right["logits"], atol=1e-5, rtol=1e-5)
            assert np.array_equal(_images(4)[:count], images)


def test_equal_samples_are_equal_bytes(model: TinyNet, graph: Graph, tmp_path: Path) -> None:
    write_samples(tmp_path / "a", model, graph, _images(2))
    write_samples(tmp_path / "b", model, graph, _images(2))

    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")


def test_new_samples_take_the_place_of_old_ones_and_nothing_else_stays(
    model: TinyNet, graph: Graph, tmp_path: Path
) -> None:
    write_samples(tmp_path, model, graph, _images(7), batches=(7,))
    write_samples(tmp_path, model, graph, _images(2, seed=1))

    assert set(FILES) == set(_contents(tmp_path))
    assert {"sample_inputs", "sample_outputs"} == {path.name for path in tmp_path.iterdir()}


def test_failure_leaves_the_old_samples(
    model: TinyNet, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path, model, graph, _images(2))
    before = _contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ntksap_export.runtime.samples.write_archive", full)
    with pytest.raises(OSError, match="No space"):
        write_samples(tmp_path, model, graph, _images(2, seed=1))

    assert before == _contents(tmp_path)
    assert {"sample_inputs", "sample_outputs"} == {path.name for path in tmp_path.iterdir()}
