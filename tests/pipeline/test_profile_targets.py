"""What each kind of target gives to measure, and several side by side; nothing is timed here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ntksap_export.errors import CheckpointError, ConfigError, NtksapError, RunDirectoryError, UnavailableError
from ntksap_export.graph import Graph, read_preprocessing, weight_sparsity
from ntksap_export.graph.precision import precision_of
from ntksap_export.pipeline import profile_targets, profiling, run_stage
from ntksap_export.profiling.profile import Variant
from ntksap_export.profiling.settings import Settings

from ..profiling.profiling_cases import write_graph
from ..support.engine import write_engine_graph

CPU = {"profile_device": ("cpu",), "profile_threads": (1,), "profile_batch": (1,)}


@dataclass
class Look:
    """What would have been measured, with the graphs as they were while it was there."""

    variants: list[Variant] = field(default_factory=list)
    graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    settings: Settings | None = None
    baseline: str | None = None

    @property
    def names(self) -> list[tuple[str, str]]:
        """Name and precision of each."""
        return [(variant.name, variant.precision) for variant in self.variants]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    look = Look()

    def profile(
        variants: Sequence[Variant], settings: Settings, *, baseline: str | None = None, progress: object = None
    ) -> list[dict[str, Any]]:
        look.variants, look.settings, look.baseline = list(variants), settings, baseline
        for variant in variants:
            assert variant.graph is not None
            look.graphs[variant.name, variant.precision] = Graph.load(variant.graph)
        return []

    monkeypatch.setattr(profiling, "profile", profile)
    return look


def test_a_run_has_its_network_and_a_dense_one_with_all_channels(look: Look, finished_run: Path) -> None:
    result = profile_targets([str(finished_run)], CPU)

    assert [("sparse", "fp32"), ("dense", "fp32")] == look.names
    assert [finished_run / "model.safetensors", None] == [variant.checkpoint for variant in look.variants]
    assert {"model.onnx", "model.safetensors", "mask.safetensors"} == set(result["files"])
    assert weight_sparsity(look.graphs["sparse", "fp32"]) > 0.5
    assert 0.0 == weight_sparsity(look.graphs["dense", "fp32"])
    assert look.settings is not None
    assert ("onnxruntime", "torch") == look.settings.backends


def test_a_checkpoint_is_measured_as_its_run_would_be(look: Look, finished_run: Path) -> None:
    profile_targets([str(finished_run / "model.safetensors")], CPU)

    stored = dict(Graph.load(finished_run / "model.onnx").weights())
    found = dict(look.graphs["sparse", "fp32"].weights())
    assert [("sparse", "fp32"), ("dense", "fp32")] == look.names
    assert stored.keys() == found.keys()
    assert all(np.array_equal(values, found[name]) for name, values in stored.items())
    assert {"name": "resnet20", "num_classes": 10, "stem": "auto"} == look.variants[0].model
    assert (3, 16, 16) == look.variants[0].shape


def test_a_model_by_name_is_dense_with_random_weights(look: Look) -> None:
    profile_targets(["lenet5"], {**CPU, "num_classes": 7})

    (variant,) = look.variants
    assert ("dense", "fp32") == (variant.name, variant.precision)
    assert {"name": "lenet5", "num_classes": 7, "stem": "auto"} == variant.model
    assert 0.0 == weight_sparsity(look.graphs["dense", "fp32"])


def test_lower_precisions_of_a_model_are_made_when_asked_for(look: Look) -> None:
    profile_targets(["resnet20"], {**CPU, "image_size": 16, "profile_precision": ("fp16", "int8")})

    assert [("dense", "fp16"), ("dense", "int8")] == look.names
    assert ["fp16", "int8"] == [precision_of(graph) for graph in look.graphs.values()]


def test_a_precision_that_a_run_lacks_is_a_row_with_the_command_that_makes_it(look: Look, finished_run: Path) -> None:
    asked = {"profile_precision": ("fp32", "int8"), "profile_backend": ("onnxruntime", "torch", "openvino")}

    rows = profile_targets([str(finished_run)], {**CPU, **asked})["cells"]

    assert [("sparse", "fp32"), ("dense", "fp32"), ("dense", "int8")] == look.names
    assert [("onnxruntime", "skipped"), ("openvino", "skipped")] == [(row["backend"], row["status"]) for row in rows]
    assert all(
        ("sparse", "int8", f"'{finished_run}' has no model.int8.onnx; `ntksap export {finished_run} --int8` makes it")
        == (row["variant"], row["precision"], row["reason"])
        for row in rows
    )


def test_a_backend_that_is_not_here_has_one_row_for_each_precision(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"backend": "openvino", "device": "cpu", "batch": None, "threads": None, "status": "skipped", "reason": "no"}
    cells = [{"variant": "sparse", "precision": name, **gone} for name in ("fp16", "int8")]
    monkeypatch.setattr(profiling, "profile", lambda *_, **__: cells)
    asked = {**CPU, "profile_backend": ("openvino", "torch"), "profile_precision": ("fp16", "int8")}

    told = profile_targets([str(finished_run)], asked)["cells"]

    assert cells == told


def test_fp16_of_a_graph_is_made_and_int8_is_not(look: Look, finished_run: Path) -> None:
    asked = {**CPU, "profile_precision": ("fp16", "int8")}

    (row,) = profile_targets([str(finished_run / "model.onnx")], asked)["cells"]

    assert [("sparse", "fp16"), ("dense", "fp16"), ("dense", "int8")] == look.names
    assert ("int8", "skipped") == (row["precision"], row["status"])
    assert "`ntksap export RUN --int8`" in row["reason"]


def test_bf16_is_the_float32_network_and_no_other_file(look: Look, finished_run: Path) -> None:
    result = profile_targets([str(finished_run)], {**CPU, "profile_precision": ("bf16",)})

    assert [("sparse", "fp32"), ("dense", "fp32")] == look.names
    assert [] == result["cells"]


def test_a_graph_of_another_precision_than_asked_is_said_to_be(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    proto = onnx.load(str(write_graph(path)))
    proto.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.ones((3, 2), np.float16), proto.graph.initializer[0].name)
    )
    proto.graph.input[0].type.tensor_type.elem_type = proto.graph.output[0].type.tensor_type.elem_type = 10
    path.write_bytes(proto.SerializeToString())

    (row,) = profile_targets([str(path)], {**CPU, "profile_precision": ("fp32",)})["cells"]

    assert [] == look.variants
    assert ("fp32", "net.onnx is a graph in fp16") == (row["precision"], row["reason"])


@pytest.mark.parametrize("setting", [{"input": "uint8"}, {"normalize": True}, {"opset": 18}])
def test_a_dense_twin_takes_what_its_graph_takes(look: Look, finished_run: Path, setting: dict[str, Any]) -> None:
    run_stage("export", finished_run, setting)

    for target in (finished_run, finished_run / "model.onnx"):
        profile_targets([str(target)], CPU)
        sparse, dense = look.graphs["sparse", "fp32"].proto, look.graphs["dense", "fp32"].proto

        assert sparse.graph.input[0] == dense.graph.input[0]
        assert sparse.opset_import == dense.opset_import
        assert read_preprocessing(sparse) == read_preprocessing(dense)


def test_several_targets_are_named_by_the_end_of_their_paths(look: Look, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_graph(tmp_path / name / "net.onnx")
    write_graph(tmp_path / "other.onnx", weights="{1, 4, -1, 2, 5, 3}")

    result = profile_targets([str(tmp_path / name) for name in ("a/net.onnx", "b/net.onnx", "other.onnx")], CPU)

    assert ["a/net", "b/net", "other"] == [name for name, _ in look.names]
    assert "other" == look.baseline  # their dense twin: the same nodes, without zeros
    assert {"a/net/net.onnx", "b/net/net.onnx", "other/other.onnx"} == set(result["files"])
    assert look.settings is not None
    assert ("onnxruntime",) == look.settings.backends


def test_a_suffix_tells_files_of_one_name_apart(look: Look, finished_run: Path) -> None:
    targets = [finished_run, finished_run / "model.onnx", finished_run / "model.safetensors"]

    profile_targets([str(target) for target in targets], CPU)

    assert ["finished", "model.onnx", "model.safetensors"] == [
        name for name, _ in look.names if not name.endswith("dense")
    ]


def test_a_dense_twin_in_common_is_measured_once(look: Look, finished_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished_run, again)

    profile_targets([str(finished_run), str(again)], CPU)

    assert ["finished", "again", "dense"] == [name for name, _ in look.names]
    assert "dense" == look.baseline
    assert look.variants[2].model is not None


def test_different_networks_keep_their_own_twins(look: Look, finished_run: Path, tmp_path: Path) -> None:
    profile_targets([str(write_graph(tmp_path / "net.onnx")), str(finished_run)], CPU)

    assert {"net", "finished", "net dense", "finished dense"} == {name for name, _ in look.names}
    assert look.baseline in {"net dense", "finished dense"}


def test_a_model_stands_for_the_twin_of_its_own_structure(look: Look, finished_run: Path) -> None:
    profile_targets([str(finished_run / "model.safetensors"), "resnet20"], {**CPU, "image_size": 16, "num_classes": 10})

    names = [name for name, _ in look.names]
    assert ["model", "resnet20"] == [name for name in names if not name.endswith("dense")]
    assert look.baseline in names


@pytest.mark.parametrize(
    ("targets", "error", "said"),
    [
        ([], ConfigError, "name at least one TARGET"),
        (["nothing.onnx"], RunDirectoryError, "no such file or directory 'nothing.onnx'"),
        (["runs/nothing"], RunDirectoryError, "no such file or directory 'runs/nothing'"),
        (["resnet2"], ConfigError, "resnet20"),
        (["resnet20", "resnet20"], ConfigError, "stands there twice"),
        (["tests.nothing:factory"], NtksapError, "tests.nothing"),
    ],
)
def test_targets_that_are_none(look: Look, targets: list[str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        profile_targets(targets, CPU)
    assert [] == look.variants


def test_a_foreign_checkpoint_says_what_to_do(look: Look, tmp_path: Path) -> None:
    torch.save({"w": torch.eye(2)}, tmp_path / "net.pt")

    with pytest.raises(CheckpointError, match=r"net\.pt does not say which model it is of; write `ntksap export MODEL"):
        profile_targets([str(tmp_path / "net.pt")], CPU)


def test_a_broken_checkpoint_is_one(look: Look, finished_run: Path) -> None:
    path = finished_run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        profile_targets([str(path)], CPU)


def test_a_run_without_a_graph_names_the_stage(look: Look, finished_run: Path) -> None:
    (finished_run / "model.onnx").unlink()

    with pytest.raises(RunDirectoryError, match=r"has no model\.onnx; run `ntksap export` first"):
        profile_targets([str(finished_run), "lenet5"], CPU)


def test_a_run_knows_its_own_size(look: Look, finished_run: Path) -> None:
    with pytest.raises(ConfigError, match="image size is 16; got --image-size 32"):
        profile_targets([str(finished_run), "resnet20"], {**CPU, "image_size": 32})


def test_the_only_backend_must_be_there(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntksap_export.runtime.backends.find_spec", lambda _: None)
    path = str(write_graph(tmp_path / "net.onnx"))

    with pytest.raises(UnavailableError, match=r"openvino is not installed; pip install 'ntksap-export\[openvino\]'"):
        profile_targets([path], {**CPU, "profile_backend": ("openvino",)})
    profile_targets([path], {**CPU, "profile_backend": ("openvino", "onnxruntime")})

    assert 2 == len(look.variants)


def test_the_stage_of_a_run_stores_what_was_asked(look: Look, finished_run: Path) -> None:
    run_stage("profile", finished_run, {"profile_precision": ("fp16",)}, command="ntksap profile finished")
    stored = json.loads((finished_run / "profile.json").read_text())

    assert [("dense", "fp16")] == look.names
    assert [("sparse", "fp16", "skipped")] == [
        (row["variant"], row["precision"], row["status"]) for row in stored["cells"]
    ]
    assert (2, "ntksap profile finished") == (stored["schema"], stored["command"])
    assert ["fp16"] == stored["settings"]["precisions"]


@pytest.fixture
def with_body(finished_run: Path) -> Path:
    write_engine_graph(Graph.load(finished_run / "model.onnx"), finished_run / "model.sparse.onnx")
    return finished_run


def test_the_engines_graph_of_a_run_is_one_more_variant(look: Look, with_body: Path) -> None:
    result = profile_targets([str(with_body)], CPU)

    assert [("sparse", "fp32"), ("engine", "fp32"), ("dense", "fp32")] == look.names
    assert [False, True, False] == [variant.engine for variant in look.variants]
    assert "model.sparse.onnx" in result["files"]


@pytest.mark.parametrize(("precisions", "there"), [(("fp32", "int8"), True), (("int8",), False)])
def test_it_is_measured_where_float32_is(look: Look, with_body: Path, precisions: tuple[str, ...], there: bool) -> None:
    profile_targets([str(with_body)], {**CPU, "profile_precision": precisions})

    assert there == (("engine", "fp32") in look.names)


def test_alone_it_has_the_dense_twin_of_the_graph_that_it_was_made_of(look: Look, with_body: Path) -> None:
    profile_targets([str(with_body / "model.sparse.onnx")], CPU)

    assert [("engine", "fp32"), ("dense", "fp32")] == look.names
    assert 0.0 == weight_sparsity(look.graphs["dense", "fp32"])
    assert look.settings is not None
    assert ("onnxruntime",) == look.settings.backends


def test_without_that_graph_it_is_measured_alone(look: Look, with_body: Path) -> None:
    (with_body / "model.onnx").unlink()

    profile_targets([str(with_body / "model.sparse.onnx")], CPU)

    assert [("engine", "fp32")] == look.names


def test_among_several_targets_it_is_named_after_its_run(look: Look, with_body: Path) -> None:
    profile_targets([str(with_body), str(with_body / "model.sparse.onnx")], CPU)

    assert ["finished", "finished engine", "model.sparse"] == [
        name for name, _ in look.names if not name.endswith("dense")
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"profile_backend": ("openvino",)},
            "which runs in onnxruntime; got --backend openvino, profile model.onnx there",
        ),
        (
            {"profile_backend": ("onnxruntime", "torch-compile")},
            "got --backend torch-compile, profile model.onnx there",
        ),
        (
            {"profile_precision": ("int8",)},
            "the sparse engine computes in fp32; profile model.onnx in other precisions",
        ),
        ({"profile_precision": ("fp32", "bf16")}, "the sparse engine computes in fp32; profile model.onnx"),
    ],
)
def test_what_it_cannot_do_is_a_line_that_names_model_onnx(
    look: Look, with_body: Path, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(NtksapError) as error:
        profile_targets([str(with_body / "model.sparse.onnx")], {**CPU, **asked})

    assert said in str(error.value) or "openvino is not installed" in str(error.value)
    assert [] == look.variants
