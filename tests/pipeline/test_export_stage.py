"""The stage `export` with settings beyond the usual, each on a copy of one small finished run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from ntksap_export.config import make_config
from ntksap_export.graph import Graph
from ntksap_export.pipeline import RunDir, inspect_path, profile_graph, run_stage, summary
from ntksap_export.pipeline.run_dir import fingerprint
from ntksap_export.progress import Silent

from ..conftest import small_config


def test_weights_in_a_file_of_their_own_are_part_of_the_run(finished_run: Path) -> None:
    before = Graph.load(finished_run / "model.onnx")
    run_stage("export", finished_run, {"external_data": "always"})

    (data,) = [file.name for file in finished_run.glob("model.onnx.*.data")]
    state = json.loads((finished_run / ".ntksap" / "state.json").read_text())
    facts = inspect_path(finished_run / "model.onnx")

    assert {"model.onnx", data, "parity.json"} == set(state["export"]["files"])
    assert {"model.onnx", data} <= set(summary(finished_run)["files"])
    assert sum((finished_run / name).stat().st_size for name in ("model.onnx", data)) == facts["file_bytes"]
    assert before.to_bytes() == Graph.load(finished_run / "model.onnx").to_bytes()

    measured = profile_graph(
        finished_run / "model.onnx", {"profile_batch": (1,), "profile_device": ("cpu",), "profile_seconds": 0.05},
        None, None, Silent(),
    )  # fmt: skip
    assert {"model.onnx", data} == set(measured["files"])
    assert {"measured"} == {cell["status"] for cell in measured["cells"]}

    stored = {key.replace("-", "_"): value for key, value in RunDir(finished_run).stored_config().items()}
    config = make_config({**stored, "external_data": "always"})
    assert RunDir(finished_run).is_done("export", config)
    (finished_run / data).write_bytes(b"damaged")
    assert not RunDir(finished_run).is_done("export", config)

    run_stage("export", finished_run, {})

    assert [] == list(finished_run.glob("*.data"))


def test_new_keys_change_no_fingerprint_until_they_are_used() -> None:
    """Computed by the version that knew opset, atol and rtol alone."""
    usual = small_config(num_classes=10)

    assert "e5be2cf4b3b2c14c649e75486578650a74856736e422f8a91eee5cb536dd227b" == fingerprint("export", usual)
    assert fingerprint("export", usual) != fingerprint("export", small_config(num_classes=10, dynamic_size=True))


def test_a_graph_of_dynamic_size_comes_out_of_a_run(finished_run: Path) -> None:
    run_stage("export", finished_run, {"dynamic_size": True})

    session = onnxruntime.InferenceSession(str(finished_run / "model.onnx"), providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"images": np.ones((1, 3, *side), np.float32)})[0] for side in ((16, 16), (24, 40))]

    assert [(1, 10), (1, 10)] == [answer.shape for answer in answers]
