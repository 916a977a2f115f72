"""Models x patterns x precisions x runtimes: every graph answers as its model does, wherever it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from ntksap_export.runtime import backends
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.parity import check_parity, make_probes
from ntksap_export.runtime.samples import write_samples
from ntksap_export.runtime.verify import verify
from tests.support.deployed import PATTERNS, PRECISIONS, TEN, deployed
from tests.support.torchvision import torchvision_models
from tests.test_graphs_doc import CODE

FAST = ("resnet20",)
SLOW = ("vgg16_bn", "resnet50", "mobilenet_v3_large")
STEADY = ("resnet20", "vgg16_bn")
RUNTIMES = ("onnxruntime", "openvino", "torch-compile")


def _cases() -> list[object]:
    found: list[object] = []
    for model in (*FAST, *SLOW):
        for runtime in RUNTIMES:
            slow = model in SLOW or runtime == "torch-compile"
            found.append(
                pytest.param(model, runtime, marks=[pytest.mark.slow] if slow else [], id=f"{model}-{runtime}")
            )
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("name", "runtime"), _cases())
def test_graph_answers_as_its_model_does(name: str, runtime: str, pattern: str, precision: str) -> None:
    if reason := backends.unavailable(runtime):
        pytest.skip(reason)
    if backends.takes_model(runtime) and precision != "fp32":
        pytest.skip(f"{runtime} runs the model, which is float32")
    if precision != "fp32" and name not in STEADY:
        pytest.skip("with weights as drawn it amplifies rounding: fp16's to a twentieth of the logits")
    case = deployed(name, pattern)
    make, limits = PRECISIONS[precision]
    noise = precision != "int8"  # which is calibrated on images

    if backends.takes_model(runtime):
        session = backends.open_model(runtime, case.model)
    else:
        session = backends.open_graph(runtime, make(case).to_bytes(), threads=1)
    probes = [probe for probe in make_probes(case.images()) if noise or probe.source == "real"]
    with TorchSession(case.model) as reference:
        parity = check_parity(reference, [session], probes, limits=limits)
    session.close()

    assert parity.passed, parity.complaint()
    # Logits of networks that were not trained differ by less from image to image than int8's limit allows.
    assert precision == "int8" or not parity.vacuous


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_graph_of_each_pattern_passes_verification(name: str, pattern: str) -> None:
    case = deployed(name, pattern)

    parity = verify(case.model, case.graph, case.images(), PRECISIONS["fp32"][1])

    assert parity.passed, parity.complaint()
    assert 12 == len(parity.checks)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEN)
def test_ten_graphs_are_valid_and_run_bare_and_in_openvino(name: str, tmp_path: Path) -> None:
    if name.startswith("torchvision:"):
        torchvision_models()
    case = deployed(name)
    case.graph.save(tmp_path / "model.onnx")
    write_samples(tmp_path, case.model, case.graph, case.images())

    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    bare = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (0, "agrees\n") == (bare.returncode, bare.stdout), bare.stderr
    if reason := backends.unavailable("openvino"):
        pytest.skip(f"valid, and right in a bare onnxruntime; {reason}")
    session = backends.open_graph("openvino", tmp_path / "model.onnx")
    inputs, outputs = tmp_path / "sample_inputs/batch2.npz", tmp_path / "sample_outputs/batch2.npz"
    with np.load(inputs) as given, np.load(outputs) as right:
        apart = np.abs(session.run(given["images"]) - right["logits"]).max()
        scale = np.abs(right["logits"]).max()
    session.close()

    assert apart <= 1e-5 + 1e-4 * scale
    assert scale > 1e-3
