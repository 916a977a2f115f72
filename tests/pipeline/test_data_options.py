"""Data sets by name and the options of augmentation, from the configuration to the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError
from ntksap_export.pipeline import RunDir, plan, run_road, summary

from ..data.cases import write_mnist


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cutout": 33}, "cutout 33 is larger than images of 32 pixels; use less than half"),
        ({"crop_scale": (0.5, 1.0)}, "crop-scale and crop-ratio belong to augment resized-crop; got augment shift"),
        ({"augment": "none", "repeats": 3}, "repeats 3 with augment none shows the same image again; leave it away"),
    ],
)
def test_an_augmentation_that_does_not_fit_is_refused_before_anything_is_written(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    with pytest.raises(ConfigError) as caught:
        run_road(make_config({"model": "resnet20", "image_size": 32, **values}), out)

    assert (message, False) == (str(caught.value), out.exists())


def test_a_named_data_set_from_its_own_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path / "sets")
    config = make_config(
        {
            "model": "lenet5",
            "data": "mnist",
            "data_dir": str(tmp_path / "sets"),
            "method": "magnitude",
            "rounds": 1,
            "epochs": 1,
            "batch_size": 10,
            "cutout": 4,
            "repeats": 2,
        }
    )
    out = tmp_path / "run"

    assert "mnist" == plan(config, out)["data"]["name"]
    run_road(config, out, stages=("prune", "train", "export"))

    written = RunDir(out).read_json("config.json")
    assert [0.1307] * 3 == written["pretrained_cfg"]["mean"]
    assert ("mnist", 20, 10) == tuple(written["data"][key] for key in ("name", "train_images", "val_images"))
    assert summary(out)["parity"]
    assert str(tmp_path) not in str(written["ntksap"]["provenance"])
