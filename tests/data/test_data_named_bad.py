"""Files of named data sets that are missing, damaged or malicious."""

from __future__ import annotations

import gzip
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntksap_export.data import open_data, peek
from ntksap_export.data.unpickle import read_pickle
from ntksap_export.errors import DataError, NtksapError

from . import cases


def refusal(name: str, root: Path, kind: type[NtksapError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        peek(name, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "missing", "way"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1", "give --download, or get it from https://www.cs.toronto.edu"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", "give --download, or get it from http://yann"),
        ("tiny-imagenet", "tiny-imagenet-200", "get it from http://cs231n.stanford.edu/tiny-imagenet-200.zip and"),
        ("imagenet", "imagenet/train", "get it from https://image-net.org and put imagenet/{train,val}/SYNSET/ in"),
    ],
)
def test_missing_files_are_named_with_a_way_to_get_them(name: str, missing: str, way: str, tmp_path: Path) -> None:
    message = refusal(name, tmp_path)

    assert message.startswith(f"{name} is not wholly here: '{tmp_path / missing}' does not exist; {way}")
    assert message.endswith(f"in '{tmp_path}' (--data-dir names another folder)")


def test_one_file_of_several_is_missing(tmp_path: Path) -> None:
    (cases.write_cifar10(tmp_path) / "data_batch_3").unlink()

    assert f"'{tmp_path}/cifar-10-batches-py/data_batch_3' does not exist" in refusal("cifar10", tmp_path)


class Attack:
    """Runs a program when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "data_batch_1", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"data": Attack(mark)}, protocol=protocol))

    with pytest.raises(DataError, match=r"is damaged or not what its name says \(asks for \S+\)"):
        read_pickle(path)

    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # it was a real one


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fcore.multiarray\x93.",
    ],
)
def test_pickles_that_ask_for_more(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"is damaged or not what its name says \((asks for|the instruction) "):
        read_pickle(path)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
KIND = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
HUGE = b"J\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}U\x04data" + ARRAY + b"(K\x01" + HUGE + HUGE + b"\x86" + KIND + b"\x89U\x03abctbs.",
        b"\x80\x02}U\x04datacnumpy\nndarray\n" + HUGE + b"\x85Rs.",
        b"\x80\x05}\x96\0\0\0\0\x10\0\0\0.",
        b"\x80\x02}T\xff\xff\xff\x7fabc.",
    ],
    ids=["shape", "constructor", "bytearray", "text"],
)
def test_sizes_are_not_believed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(DataError, match="is damaged or not what its name says"):
        read_pickle(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b")q\0" + b"h\0h\0\x86q\0" * 60 + b"K\x01s", "a key that is no text"),
        (b"(" + b")q\0" + b"h\0h\0\x86q\0" * 60 + b"K\x01u", "a key that is no text"),
        (b")" + b"\x85" * 2_000_000 + b"K\x01s", "a key that is no text"),
        (
            b"X\x04\0\0\0data](X\x40\x42\x0f\0" + b"x" * 1_000_000 + b"q\0"
            b"c_codecs\nencode\nq\1" + b"h\1h\0U\x06latin1\x86R" * 2_000 + b"es",
            "more bytes than the file has",
        ),
    ],
    ids=["doubled", "doubled in a group", "deep", "encoded again and again"],
)
def test_a_small_pickle_costs_little(tmp_path: Path, body: bytes, reason: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}" + body + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(DataError, match=rf"is damaged or not what its name says \({reason}\)"):
        read_pickle(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]}, "holds no data of 3072 bytes an image"),
        ({"labels": [0, 1]}, "holds no data of 3072 bytes an image"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "holds 2 images and not as many labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "has labels that are no numbers"),
    ],
)
def test_batches_that_do_not_fit(tmp_path: Path, values: dict[str, object], message: str) -> None:
    path = cases.write_cifar10(tmp_path) / "data_batch_2"
    path.write_bytes(cases.python2_pickle(values))

    assert f"'{path}' {message}; fetch it again" == refusal("cifar10", tmp_path)


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    path = cases.write_cifar10(tmp_path) / "data_batch_1"
    path.write_bytes(cases.python2_pickle({"data": np.zeros((10, 3072), np.uint8), "labels": [0, 10, *range(8)]}))

    expected = f"'{path.parent}: image 1' has label 10; there are 10 classes, 0 to 9"
    assert expected == refusal("cifar10", tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    cases.write_cifar10(tmp_path, count=9)

    expected = "'cifar10' has classes without training images: 'class9'; add some or drop the class"
    assert expected == refusal("cifar10", tmp_path)


def test_two_classes_of_one_name(tmp_path: Path) -> None:
    folder = cases.write_cifar10(tmp_path)
    names = ["cat", "dog", "cat", *(f"class{number}" for number in range(7))]
    (folder / "batches.meta").write_bytes(cases.python2_pickle({"label_names": names}))

    assert "'cifar10' has two classes of the same name: 'cat'; rename one" == refusal("cifar10", tmp_path)


def test_another_number_of_classes(tmp_path: Path) -> None:
    cases.write_imagenet(tmp_path, count=3)

    expected = (
        f"imagenet in '{tmp_path}' has 3 classes; there are 1000. Give another data set by its path, as --data "
        "./imagenet"
    )
    assert expected == refusal("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is truncated or damaged"),
        (struct.pack(">4I", 0x801, 2, 28, 28), "is no idx file of bytes with 3 side(s): it begins with 0x801"),
        (struct.pack(">4I", 0x803, 2**31, 2**20, 28), "claims 2147483648x1048576x28 values; fetch it again"),
        (struct.pack(">4I", 0x803, 0, 28, 28), "claims 0x28x28 values; fetch it again"),
        (struct.pack(">4I", 0x803, 2, 2, 2) + bytes(7), "claims 8 bytes of values and has only 7; fetch it again"),
        (struct.pack(">4I", 0x803, 2, 2, 2) + bytes(9), "claims 8 bytes of values and has more; fetch it again"),
        (struct.pack(">4I", 0x803, 10**6, 28, 28), "claims 784,000,000 bytes of values and has only 0; fetch it again"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_do_not_keep_their_word(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    path = cases.write_mnist(tmp_path, packed=packed) / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)

    assert refusal("mnist", tmp_path).startswith(f"'{path}' {message}")


def test_a_gz_cut_short(tmp_path: Path) -> None:
    path = cases.write_mnist(tmp_path, packed=True) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:2000])

    assert refusal("mnist", tmp_path).startswith(f"'{path}' is truncated or damaged (")


def test_idx_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = cases.write_mnist(tmp_path)
    cases.write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(3, np.uint8))

    assert f"'{folder}' has 10 images and 3 labels of t10k; fetch them again" == refusal("mnist", tmp_path)


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "val" / "val_annotations.txt"
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "wnids.txt").unlink(), "' has no wnids.txt; unpack or fetch it again"),
        (lambda folder: (folder / "wnids.txt").write_bytes(b"\xff"), ": wnids.txt' cannot be read ("),
        (
            replaced("n00000007", "n12345678"),
            ": val/val_annotations.txt' gives val_0.JPEG the unknown class 'n12345678'; fetch it again",
        ),
        (
            replaced("val_0", "val_9"),
            ": val/val_annotations.txt' names images that are not there: 'val_9.JPEG'; fetch it again",
        ),
        (
            lambda folder: (folder / "val" / "images" / "val_5.JPEG").write_bytes(b""),
            ": val/val_annotations.txt' lacks images of val/images: 'val_5.JPEG'; fetch it again",
        ),
        (replaced("val_0", "val_1"), ": val/val_annotations.txt' names an image twice; fetch it again"),
        (
            lambda folder: (folder / "train" / "n00000003").rename(folder / "train" / "n12345678"),
            "' has train/n12345678, which wnids.txt does not name; fetch it again",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_tiny_imagenet_whose_files_disagree(
    tmp_path: Path, change: Callable[[Path], object], message: str, packed: bool
) -> None:
    folder = cases.write_tiny_imagenet(tmp_path)
    change(folder)
    place = cases.pack(folder) if packed else folder

    assert refusal("tiny-imagenet", tmp_path).startswith(f"'{place}{message}")


def test_a_class_of_tiny_imagenet_without_images(tmp_path: Path) -> None:
    folder = cases.write_tiny_imagenet(tmp_path)
    (folder / "train" / "n00000003" / "images" / "n00000003_0.JPEG").unlink()

    expected = "'tiny-imagenet' has classes without training images: 'n00000003'; add some or drop the class"
    assert expected == refusal("tiny-imagenet", tmp_path)


def test_a_zip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"PK\3\4 but no more")

    message = refusal("tiny-imagenet", tmp_path)

    assert message.startswith(f"'{tmp_path / 'tiny-imagenet-200.zip'}' is truncated or no zip file (")


def test_an_image_in_a_zip_whose_bytes_changed(tmp_path: Path) -> None:
    path = cases.pack(cases.write_tiny_imagenet(tmp_path))
    content = bytearray(path.read_bytes())
    position = content.find(b"\xff\xd8\xff") if b"\xff\xd8\xff" in content else len(content) // 2
    content[position + 100 : position + 110] = bytes(10)
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"image '.*tiny-imagenet-200\.zip: .*JPEG' cannot be decoded \("):
        open_data("tiny-imagenet", data_dir=tmp_path)
