"""What a graph says of its input and its classes, and that nothing on the way forgets it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ntksap_export.graph import Graph, Preprocessing, described, optimize, read_classes, read_preprocessing
from ntksap_export.graph.preprocessing import CLASSES, PREPROCESSING
from ntksap_export.pipeline.inspection import inspect_path

from .graph_cases import parse

TAKES = Preprocessing((224, 160), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic", 0.875)


def test_the_keys_are_stable_and_json() -> None:
    graph = described(Graph(parse(), ()), TAKES, ("cat", "Hündin"))

    told = {item.key: json.loads(item.value) for item in graph.proto.metadata_props}

    assert {
        "ntksap.classes": ["cat", "Hündin"],
        "ntksap.preprocessing": {
            "size": [224, 160],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.5, 0.6, 0.7],
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "channel_order": "RGB",
            "value_range": [0.0, 1.0],
            "layout": "NCHW",
            "dtype": "float32",
            "graph_mean": None,
            "graph_std": None,
        },
    } == told


def test_what_is_written_is_read_after_passes_and_a_file(tmp_path: Path) -> None:
    whole = dataclasses.replace(TAKES, graph_mean=(0.5, 0.5, 0.5), graph_std=(1.0, 2.0, 3.0))
    proto = parse()
    proto.metadata_props.add(key="pkg.torch.onnx.source", value="/home/somebody/net.py")
    graph, _ = optimize(described(Graph(proto, ()), whole, ("cat", "dog")))
    graph.save(tmp_path / "a.onnx")

    again = Graph.load(tmp_path / "a.onnx").proto

    assert whole == read_preprocessing(again)
    assert ("cat", "dog") == read_classes(again)
    assert b"somebody" not in (tmp_path / "a.onnx").read_bytes()


def test_writing_twice_says_the_last(tmp_path: Path) -> None:
    other = dataclasses.replace(TAKES, layout="NHWC")

    graph = described(described(Graph(parse(), ()), TAKES, ("a", "b")), other, None)

    assert other == read_preprocessing(graph.proto)
    assert ("a", "b") == read_classes(graph.proto)
    assert 2 == len(graph.proto.metadata_props)


@pytest.mark.parametrize(
    "value",
    ["", "{", "3", "[1, 2]", "{}", '{"size": [1], "mean": 3, "std": 3}', '{"size": "ab", "mean": [], "std": []}'],
)
def test_what_cannot_be_read_is_as_if_it_were_not_there(value: str) -> None:
    proto = parse()
    for key in (PREPROCESSING, CLASSES):
        proto.metadata_props.add(key=key, value=value)

    assert None is read_preprocessing(proto)
    assert None is read_classes(proto)


def test_inspect_shows_it(tmp_path: Path) -> None:
    described(Graph(parse(), ()), TAKES, ("cat", "dog")).save(tmp_path / "a.onnx")

    facts = inspect_path(tmp_path / "a.onnx")["facts"]

    assert ["cat", "dog"] == facts["classes"]
    assert (224, 160) == facts["preprocessing"]["size"]


def test_a_run_says_what_its_graph_takes(finished_run: Path) -> None:
    config = json.loads((finished_run / "config.json").read_text())
    proto = Graph.load(finished_run / "model.onnx").proto

    told = read_preprocessing(proto)

    assert told is not None
    assert ([16, 16], config["pretrained_cfg"]["mean"]) == (list(told.size), list(told.mean))
    assert [str(digit) for digit in range(10)] == config["classes"] == list(read_classes(proto) or ())
