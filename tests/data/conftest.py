"""Tiny data sets, made where a test wants them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _png(seed: int, size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def png() -> Callable[[int, tuple[int, int]], bytes]:
    """The bytes of a PNG of noise: (seed, (width, height))."""
    return _png


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write train/{cat,dog} and val/{cat,dog} with `train` and `val` images a class."""

    def make(train: int = 3, val: int = 2, size: tuple[int, int] = (16, 16), held_out: str = "val") -> Path:
        root = tmp_path / "pets"
        seed = 0
        for split, count in (("train", train), (held_out, val)):
            for name in ("cat", "dog"):
                (root / split / name).mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    (root / split / name / f"{number:03d}.png").write_bytes(_png(seed, size))
                    seed += 1
        return root

    return make


@pytest.fixture
def write_tar() -> Callable[[Path, dict[str, bytes]], None]:
    """Write a tar file of the given members."""

    def write(path: Path, members: dict[str, bytes]) -> None:
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

    return write


@pytest.fixture
def make_shards(tmp_path: Path, write_tar: Callable[[Path, dict[str, bytes]], None]) -> Callable[..., Path]:
    """Write two training shards of 4 samples and one for validation of 4, classes 0 and 1 in turn."""

    def make(classes: str | None = "cat\ndog\n", held_out: str = "test") -> Path:
        root = tmp_path / "shards"
        root.mkdir()
        for number, name in enumerate(("train-0000", "train-0001", f"{held_out}-0000")):
            members: dict[str, bytes] = {}
            for index in range(4):
                members[f"{index:06d}.png"] = _png(10 * number + index, (16, 16))
                members[f"{index:06d}.cls"] = str(index % 2).encode()
            write_tar(root / f"{name}.tar", members)
        if classes is not None:
            (root / "classes.txt").write_text(classes)
        return root

    return make


@pytest.fixture
def cifar10() -> Path:
    """The shards of real images: in NTKSAP_CIFAR10, or in shared/data/cifar10 beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"
    path = Path(os.environ.get("NTKSAP_CIFAR10", beside))
    if not (path / "test-00000.tar").is_file():
        pytest.skip("no CIFAR-10 shards here; set NTKSAP_CIFAR10 to their folder")
    return path
