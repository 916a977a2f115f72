"""Data sets of Hugging Face on disk, read."""

from __future__ import annotations

import importlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ntksap_export.data import StreamSource, hub, loaders, open_data, peek
from ntksap_export.data.find import find_source
from ntksap_export.errors import UnavailableError
from tests.support.refusals import refusal

from .cases import jpeg, same
from .hub_cases import FEATURES, Features, arrow, saved, table, write_saved, written


@pytest.fixture(params=["saved", "parquet", "parquet in data"])
def hub_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "saved":
        return saved(tmp_path / "pets")
    train = arrow.concat_tables([table(9), table(6, 9)])
    written(tmp_path / "pets" / ("data" if request.param.endswith("data") else ""), train, table(3, 90))
    return tmp_path / "pets"


def test_images_labels_and_class_names(hub_folder: Path) -> None:
    dataset = open_data(str(hub_folder))

    assert ("pets", ("cat", "dog", "eel"), 16, 15, 3) == peek(str(hub_folder))
    assert [index % 3 for index in range(9)] + [index % 3 for index in range(6)] == dataset.train.labels.tolist()
    assert dataset.train.take([11]).tolist() == open_data(str(hub_folder)).train.take([11]).tolist()
    assert dataset.train.take([11]).tolist() != dataset.train.take([2]).tolist()


def test_both_forms_give_the_same_images(tmp_path: Path) -> None:
    train = arrow.concat_tables([table(9), table(6, 9)])
    mapped = open_data(str(saved(tmp_path / "pets")))
    packed = open_data(str(written(tmp_path / "parquet" / "pets", train, table(3, 90))))

    assert mapped.spec == packed.spec
    assert torch.equal(mapped.train.take(list(range(15))), packed.train.take(list(range(15))))


def test_streamed_by_workers(hub_folder: Path) -> None:
    alone = loaders(str(hub_folder), 4, 97, seed=3).train
    helped = loaders(str(hub_folder), 4, 97, seed=3, workers=1).train

    assert isinstance(alone.source, StreamSource)
    assert same(list(alone), list(helped))


def test_another_process_opens_its_own_files(hub_folder: Path) -> None:
    files = find_source(str(hub_folder)).train
    content = files.read(5)

    assert content == pickle.loads(pickle.dumps(files)).read(5)
    assert len(pickle.dumps(files)) < 3000


@pytest.mark.parametrize("held_out", ["validation", "val", "valid", "test"])
def test_validation_by_any_of_its_names(tmp_path: Path, held_out: str) -> None:
    root = written(tmp_path / "pets", table(6), table(3), held_out)

    assert 3 == peek(str(root)).val_images
    assert 3 == peek(str(write_saved(tmp_path / "saved", {"train": [table(6)], held_out: [table(3)]}))).val_images


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    root = written(tmp_path / "pets", table(6, features=None), table(3, features=None))

    assert ("0", "1", "2") == peek(str(root)).classes


def renamed(names: dict[str, str], features: Features) -> Any:
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    plain = table(6)
    return plain.rename_columns([names.get(name, name) for name in plain.schema.names]).replace_schema_metadata(
        metadata
    )


def test_columns_are_found_by_what_they_hold(tmp_path: Path) -> None:
    features: Features = {"what": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
    part = renamed({"image": "picture", "label": "what"}, features)
    part = part.append_column("id", arrow.array(range(6), arrow.int64()))

    assert ("a", "b", "c") == peek(str(written(tmp_path / "pets", part, part))).classes


def test_of_two_labels_the_fine_one_is_taken(tmp_path: Path) -> None:
    features: Features = {
        "coarse_label": {"names": ["all"], "_type": "ClassLabel"},
        "fine_label": {"names": ["a", "b", "c"], "_type": "ClassLabel"},
    }
    part = renamed({"label": "fine_label"}, features).append_column("coarse_label", arrow.array([0] * 6, arrow.int64()))

    assert ("a", "b", "c") == peek(str(written(tmp_path / "pets", part, part))).classes


def test_plain_bytes_are_images_too(tmp_path: Path) -> None:
    part = table(6)
    plain = arrow.array([item["bytes"] for item in part.column("image").to_pylist()], arrow.binary())
    part = part.set_column(0, "image", plain)
    root = written(tmp_path / "pets", part, part)

    expected = open_data(str(written(tmp_path / "other", table(6), table(6)))).train.take([4])
    assert torch.equal(expected, open_data(str(root)).train.take([4]))


def without(part: Any, name: str) -> Any:
    return part.drop_columns([name])


def with_labels(labels: list[int | None]) -> Any:
    return table(len(labels)).set_column(1, "label", arrow.array(labels, arrow.int64()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: without(table(6), "image"), "the column of images in '{file}' is not there; call it 'image'"),
        (lambda: without(table(6), "label"), "the column of labels in '{file}' is not there; call it 'label'"),
        (
            lambda: renamed({"label": "a"}, {}).append_column("b", arrow.array([0] * 6, arrow.int64())),
            "the column of labels in '{file}' could be a, b; call it 'label'",
        ),
        (lambda: with_labels([0, 1, 2, None]), "'{file}' has 1 row(s) without 'label'; leave them out"),
        (lambda: with_labels([0, 1, 2, -1]), "'{file}: row 3' has label -1; there are 3 classes, 0 to 2"),
        (lambda: with_labels([0, 1, 2, 3]), "'{file}: row 3' has label 3; there are 3 classes, 0 to 2"),
        (
            lambda: with_labels([0, 2, 2]),
            "'{root}' has classes without training images: 'dog'; add some or drop the class",
        ),
        (
            lambda: table(6).set_column(0, "image", arrow.array([{"bytes": None, "path": "a"}] * 6)),
            "the column of images in '{file}' is not there; call it 'image'",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    root = written(tmp_path / "pets", make(), table(6))

    expected = message.format(root=root, file=root / "train-00000-of-00001.parquet")
    assert expected == refusal(root)


def test_an_image_that_is_only_a_path(tmp_path: Path) -> None:
    images = [{"bytes": None if index == 4 else jpeg(index, (16, 16)), "path": "a.jpg"} for index in range(6)]
    part = table(6).set_column(0, table(6).schema.field("image"), [images])
    root = written(tmp_path / "pets", part, table(6))

    where = f"{root}/train-00000-of-00001.parquet: row 4"
    expected = "cannot be decoded (it has no bytes here, only a path or nothing); replace it or take it out"
    assert f"image '{where}' {expected}" == refusal(root)


def test_files_that_disagree_on_their_classes(tmp_path: Path) -> None:
    swapped = {**FEATURES, "label": {"names": ["dog", "cat", "eel"], "_type": "ClassLabel"}}
    root = written(tmp_path / "pets", table(6), table(3, features=swapped))

    assert "orders its classes otherwise than" in refusal(root)
    assert 3 == len(open_data(str(written(tmp_path / "more", table(6), table(3, features=None)))).val)


def test_labels_that_are_no_class_numbers(tmp_path: Path) -> None:
    part = table(2, features=None).set_column(1, "label", arrow.array([0, 10**15], arrow.int64()))
    root = written(tmp_path / "pets", part, table(3, features=None))

    expected = f"'{root}' has label {10**15}; labels are class numbers from 0 on: number the classes"
    assert expected == refusal(root)


def test_files_that_disagree_on_their_columns(tmp_path: Path) -> None:
    root = written(tmp_path / "pets", table(6), table(3, features=None).rename_columns(["img", "label"]))

    assert refusal(root).startswith(f"the column of images is 'img' in '{root}/test-00000")


@pytest.mark.parametrize("name", ["dataset_dict.json", "train/state.json"])
def test_saved_folders_that_lack_a_file(tmp_path: Path, name: str) -> None:
    root = saved(tmp_path / "pets")
    (root / name).unlink()
    (root / "state.json").write_text("{}")

    expected = {
        "dataset_dict.json": f"'{root}' holds one split; save a DatasetDict with train and test (or validation)",
        "train/state.json": f"'{root}/train/state.json' does not exist; write the data set again with save_to_disk",
    }
    assert expected[name] == refusal(root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset_dict.json", "[", "dataset_dict.json' is not JSON ("),
        ("dataset_dict.json", '{"splits": ["train"]}', "' has the splits ['train']; it needs train, and"),
        ("train/state.json", '{"_data_files": []}', "train/state.json' names no files of its own; write it"),
        ("train/state.json", '{"_data_files": [{"filename": "no.arrow"}]}', "train/no.arrow' does not exist; fetch or"),
    ],
)
def test_saved_folders_that_say_something_else(tmp_path: Path, name: str, text: str, message: str) -> None:
    root = saved(tmp_path / "pets")
    (root / name).write_text(text)

    assert message in refusal(root)


@pytest.mark.parametrize("kept", [0, 10, 1000, 5000])
def test_cut_files(hub_folder: Path, kept: int) -> None:
    path = next(
        path for path in sorted(hub_folder.rglob("*")) if path.name.startswith(("data-00000-of-00002", "train-"))
    )
    path.write_bytes(path.read_bytes()[:kept])

    message = refusal(hub_folder)

    assert message.startswith(f"'{path}' is truncated or damaged (")
    assert message.endswith("); fetch or write it again")


def test_metadata_that_is_no_json(tmp_path: Path) -> None:
    part = table(6).replace_schema_metadata({"huggingface": "{"})
    root = written(tmp_path / "pets", part, table(6))

    assert refusal(root).startswith(f"'{root}/train-00000-of-00001.parquet' is truncated or damaged (Expecting")


def test_parquet_too_large_to_be_read_whole(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PARQUET_LIMIT_BYTES", 1000)

    if hub.is_saved(hub_folder):
        assert 15 == peek(str(hub_folder)).train_images  # it is mapped, whatever its size
    else:
        assert "bytes in parquet, which are read whole, up to 1,000; load it once with `datasets`" in refusal(
            hub_folder
        )


def test_without_validation(tmp_path: Path) -> None:
    root = written(tmp_path / "pets", table(6), table(3), "extra")

    expected = "has train-*.parquet but no validation-*.parquet or test-*.parquet; add them"
    assert f"'{root}' {expected}" == refusal(root)


def test_two_layouts_at_once(tmp_path: Path) -> None:
    root = written(tmp_path / "pets", table(6), table(3))
    (root / "train").mkdir()

    assert f"'{root}' holds both train/ and train-*.parquet; keep one of them" == refusal(root)


def test_without_pyarrow(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: object) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'", name="pyarrow")

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(UnavailableError, match=r"pyarrow is not installed; pip install 'ntksap-export\[hf\]'"):
        peek(str(hub_folder))
