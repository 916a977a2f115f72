"""Small data sets for tests, and files in the layouts that others defined."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ntksap_export.data import Augmentation, DataSet, DataSpec, MemorySource

Batches = list[tuple[torch.Tensor, torch.Tensor]]


def numbered(count: int, size: int = 8, augment: str = "none", **options: Any) -> DataSet:
    """Images of noise whose label is their position; augmented as `Augmentation` says."""
    images = torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    source = MemorySource(images, torch.arange(count))
    names = tuple(str(index) for index in range(count + 2))
    spec = DataSpec(
        "noise", names, size, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), Augmentation(augment, **options), count, count
    )
    return DataSet(spec, source, source)


def same(left: Batches, right: Batches) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def jpeg(seed: int, size: tuple[int, int], kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(seed, size[1], size[0], 3)).save(buffer, kind)
    return buffer.getvalue()


def python2_pickle(values: dict[str, object]) -> bytes:
    """A dict as Python 2 and its numpy wrote it, instruction by instruction: texts are bytes, arrays of numpy.core."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def written(value: object) -> bytes:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        if isinstance(value, list):
            return b"](" + b"".join(map(written, value)) + b"e"
        assert isinstance(value, np.ndarray)
        shape = b"".join(b"J" + struct.pack("<i", side) for side in value.shape)
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        kind = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        content = b"T" + struct.pack("<i", value.size) + value.tobytes()
        return empty + b"(K\x01(" + shape + b"t" + kind + b"\x89" + content + b"tb"

    items = b"".join(text(key) + written(value) for key, value in values.items())
    return b"\x80\x02}q\x01(" + items + b"u."


def write_cifar10(root: Path, count: int = 10) -> Path:
    """`count` images in each of the six files, one of each class in turn; image i of a file is noise(i)."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data = np.stack([noise(index, 3 * 32 * 32) for index in range(count)])
        content = {"batch_label": "a batch", "labels": [index % 10 for index in range(count)], "data": data}
        (folder / name).write_bytes(python2_pickle(content))
    names = [f"class{number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(python2_pickle({"label_names": names, "num_vis": 3072}))
    return folder


def write_cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        data = np.stack([noise(index, 3 * 32 * 32) for index in range(100)])
        content = {"fine_labels": list(range(100)), "coarse_labels": [0] * 100, "data": data}
        (folder / name).write_bytes(python2_pickle(content))
    (folder / "meta").write_bytes(python2_pickle({"fine_label_names": [f"class{number}" for number in range(100)]}))
    return folder


def write_idx(path: Path, values: np.ndarray, packed: bool = False) -> None:
    content = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes()
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_mnist(root: Path, name: str = "MNIST", packed: bool = False) -> Path:
    """Twenty images for training and ten for validation, one of each class in turn."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 20), ("t10k", 10)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", noise(count, count, 28, 28), packed)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels, packed)
    return folder


def write_tiny_imagenet(root: Path) -> Path:
    """Its 200 classes with one training image each, and two validation images."""
    folder = root / "tiny-imagenet-200"
    synsets = [f"n{number:08d}" for number in range(200)]
    for number, synset in enumerate(synsets):
        (folder / "train" / synset / "images").mkdir(parents=True)
        (folder / "train" / synset / "images" / f"{synset}_0.JPEG").write_bytes(jpeg(number, (64, 64)))
        (folder / "train" / synset / f"{synset}_boxes.txt").write_text("0\n")
    (folder / "val" / "images").mkdir(parents=True)
    for number in (0, 1):
        (folder / "val" / "images" / f"val_{number}.JPEG").write_bytes(jpeg(1000 + number, (64, 64)))
    (folder / "val" / "val_annotations.txt").write_text(
        f"val_0.JPEG\t{synsets[7]}\t0\t0\t9\t9\nval_1.JPEG\t{synsets[3]}\t0\t0\t9\t9\n"
    )
    (folder / "wnids.txt").write_text("\n".join(reversed(synsets)) + "\n")
    (folder / "words.txt").write_text("n00000000\tentity\n")
    return folder


def pack(folder: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The folder as NAME.zip beside it; the folder is renamed away."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    folder.rename(folder.with_name("unpacked"))
    return path


def write_imagenet(root: Path, count: int = 1000) -> Path:
    content = jpeg(0, (100, 80))
    for split in ("train", "val"):
        for number in range(count):
            (root / "imagenet" / split / f"n{number:08d}").mkdir(parents=True)
            (root / "imagenet" / split / f"n{number:08d}" / "a.JPEG").write_bytes(content)
    return root / "imagenet"
