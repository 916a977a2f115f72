"""What card and report say of model.onnx: its input and what was removed are those of the graph, not of the model."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ntksap_export.report import ReportInput, render_card

from .page import html_of
from .sample import sample

TOTALS = {"channels": [794, 691], "parameters": [1000, 750], "macs": [4000, 3500]}


def _exported(**told: Any) -> ReportInput:
    return sample(parity={**sample().parity, **told})


def _pass(totals: dict[str, Any]) -> dict[str, Any]:
    return {"pass": "drop_dead_channels", "said": "", "changed": [], "left": [], "totals": totals}


@pytest.mark.parametrize(
    ("takes", "code", "words"),
    [
        ({}, "np.zeros((1, 3, 64, 64), np.float32)", "Images are RGB in [0, 1], then normalized per channel"),
        (
            {"dtype": "float32", "layout": "NCHW", "graph_mean": [0.5, 0.5, 0.5]},
            "np.zeros((1, 3, 64, 64), np.float32)",
            "Images are RGB in [0, 1], as they are: the graph itself normalizes them",
        ),
        (
            {"dtype": "uint8", "layout": "NHWC", "graph_mean": [0.5, 0.5, 0.5]},
            "np.zeros((1, 64, 64, 3), np.uint8)",
            "Images are RGB bytes, height x width x channel, as they are: the graph itself normalizes them",
        ),
    ],
)
def test_the_input_is_that_of_the_graph(takes: dict[str, Any], code: str, words: str) -> None:
    data = _exported(takes=takes)
    text = render_card(data)

    assert code in text
    assert words in text
    assert words in html_of(data)


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        (TOTALS, "103 of 794 channels: 25.0 % of the parameters, 12.5 % of the multiply-adds"),
        ({**TOTALS, "macs": None}, "103 of 794 channels: 25.0 % of the parameters"),
        ({**TOTALS, "channels": [794, 794]}, None),
        ({}, None),
    ],
)
def test_what_was_removed_is_told(totals: dict[str, Any], expected: str | None) -> None:
    data = _exported(pass_log=[_pass(totals)])
    row = re.search(r"\| removed from model.onnx, exactly, as the mask emptied it \| (.*) \|", render_card(data))

    assert expected == (row[1] if row else None)
    assert (expected is not None) == ("Removed from it, exactly" in html_of(data))


@pytest.mark.parametrize(("sparse", "words"), [(False, "stored as zeros"), (True, "left out of its file")])
def test_zeros_are_told_as_they_are_stored(sparse: bool, words: str) -> None:
    assert f"Zeros in model.onnx are {words}" in render_card(_exported(sparse_initializers=sparse))
