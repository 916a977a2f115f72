"""`--download`: a named data set that is not there, through torchvision; nothing is fetched here."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ntksap_export.data import fetch as fetch_module
from ntksap_export.data import open_data, peek
from ntksap_export.data.table import DATA_SETS
from ntksap_export.errors import ConfigError, DataError, UnavailableError

from . import cases


class Fetched:
    """Stands in for `torchvision.datasets`: notes what it is asked, and writes the files."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[tuple[str, bool, bool]] = []
        self.fails = fails

    def __call__(self, root: str, train: bool, download: bool) -> None:
        self.asked.append((root, train, download))
        print("Downloading ...")
        if self.fails:
            raise RuntimeError(self.fails)
        cases.write_cifar10(Path(root))

    def module(self, name: str) -> SimpleNamespace:
        assert name == "datasets"
        return SimpleNamespace(CIFAR10=self)


def test_a_missing_set_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = Fetched()
    monkeypatch.setattr(fetch_module, "load_torchvision", fetched.module)
    root = tmp_path / "new" / "home"

    first = open_data("cifar10", data_dir=root, download=True).spec
    second = open_data("cifar10", data_dir=root, download=True).spec

    assert [(str(root), True, True)] == fetched.asked
    assert (first, "Downloading ...\n", "") == (second, *reversed(capsys.readouterr()))


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "load_torchvision", Fetched("<urlopen error\nno route>").module)

    with pytest.raises(DataError) as caught:
        peek("cifar10", tmp_path, download=True)

    expected = "cifar10 could not be downloaded: <urlopen error no route>; try again, or get it from https://www.cs"
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("name", ["tiny-imagenet", "imagenet"])
def test_what_torchvision_cannot_fetch(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"--download cannot fetch {name}; get it from http"):
        peek(name, tmp_path, download=True)


def test_a_download_without_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: object) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'", name="torchvision")

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(UnavailableError, match=r"torchvision is not installed; pip install 'ntksap-export\[vision\]'"):
        fetch_module.fetch("cifar10", DATA_SETS["cifar10"], tmp_path)
