from __future__ import annotations

import json
from pathlib import Path

import pytest

from ntksap_export.checkpoint import Provenance, SparseCheckpoint, library_versions
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.masks import Mask


def test_comes_back_from_json() -> None:
    provenance = Provenance("resnet50", "ntksap", 3, {"shape": (3, 224, 224), "5": None}, {"torch": "2.13.0"})

    found = Provenance.from_json(json.loads(json.dumps(provenance.to_json())))

    assert provenance == found
    assert found.config == {"shape": [3, 224, 224], "5": None}


def test_comes_back_from_a_file(tmp_path: Path) -> None:
    provenance = Provenance("résnet", "snip", -1, {"nested": {"list": [1, 2.5, "ü"]}}, library_versions())
    SparseCheckpoint({}, Mask({}), provenance).save(tmp_path / "model.safetensors")

    assert provenance == SparseCheckpoint.load(tmp_path / "model.safetensors").provenance


def test_keeps_its_own_copy_of_the_config() -> None:
    config = {"epochs": [1]}
    provenance = Provenance("a", "b", 0, config, {})

    config["epochs"].append(2)

    assert provenance.config == {"epochs": [1]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_config_must_be_plain_json(value: object) -> None:
    with pytest.raises(ConfigError, match="provenance config must be plain JSON"):
        Provenance("a", "b", 0, {"value": value}, {})


def test_foreign_json_is_refused() -> None:
    with pytest.raises(CheckpointError, match="must have exactly the keys architecture, method, seed"):
        Provenance.from_json({"architecture": "a"})


def test_versions_name_the_libraries_that_make_the_bytes() -> None:
    versions = library_versions()

    assert {"ntksap-export", "torch", "safetensors", "numpy", "zstandard"} == set(versions)
    assert all(versions.values())
