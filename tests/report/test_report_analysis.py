"""The page of an analysis: every network in every picture and table, what was not asked for said, no exponent lost."""

from __future__ import annotations

from typing import Any

import pytest

from ntksap_export.report import analysis_rows, render_analysis
from ntksap_export.report.analysis import distinct_masks, document
from ntksap_export.report.text import significant

from .page import HOSTILE, Page, check_self_contained, hostile


def network(name: str, state: str = "initialization", epoch: int | None = None, **changes: Any) -> dict[str, Any]:
    density = 1.0 if name == "dense" else 0.25
    scale = 1.0 if name == "dense" else 0.01 * len(name)
    return {
        "name": name,
        "state": state,
        "epoch": epoch,
        "method": None if name == "dense" else "snip",
        "file": None,
        "weights": 1000,
        "kept": int(1000 * density),
        "density": density,
        "settled": True,
        "draws": 1,
        "deviations": None,
        "ntk": {
            "eigenvalues": [3e5 * scale, 10.0 * scale, 0.0],
            "trace": 300_010.0 * scale,
            "condition": None,
            "effective_rank": 1.5,
            "top_share": 0.99,
            "top": 3e5 * scale,
            "alignment": 1.0 if name == "dense" else 0.5 + scale,
            "distance_log10": 0.0 if name == "dense" else 10 * scale,
            "distance_relative": 0.0,
        },
        "trace": {"mean": 5e5, "standard_error": 1e3, "probes": 16},
        "isometry": {
            "mean": 2.4987 * scale,
            "std": 1.0,
            "min": 0.0,
            "max": 9.0,
            "condition": None,
            "spread": 2.5,
            "images": 2,
            "values": 10,
            "rank": 10,
            "way": "exact",
            "image_means": [2.0 * scale, 3.0 * scale],
            "layers": [
                {"name": "conv1.weight", "mean": scale, "std": 0.1, "min": 0.0, "max": 2.0, "condition": None,
                 "rank": 8, "exact": True},
            ],
        },
        "structure": {
            "layers": [
                {"name": "conv1.weight", "weights": 1000, "kept": 250, "live": 200, "density": density,
                 "effective_density": 0.2, "erk_density": 0.4, "channels": 8, "live_channels": 7},
            ],
            "weights": 1000, "kept": int(1000 * density), "live": 200, "density": density, "effective_density": 0.2,
            "channels": 8, "live_channels": 7, "log10_paths": 12.5,
        },
        **changes,
    }  # fmt: skip


def analysis() -> dict[str, Any]:
    """A run before, along and after training, and a mask beside it."""
    return {
        "schema": 1,
        "subject": {"model": "resnet20", "run": "runs/a", "num_classes": 10, "input_shape": [3, 32, 32],
                    "weights": None, "seed": 0},
        "settings": {"parts": ["ntk"], "images": 2, "real": True, "data": "cifar10", "form": "sum", "way": "auto",
                     "memory_bytes": 2**31, "seeds": 1, "probes": 16, "device": "cpu", "threads": 1},
        "networks": [
            network("dense"),
            network("masked", epoch=0),
            network("epoch 5", "training", 5),
            network("trained", "trained", 10),
            network("grasp"),
        ],
        "overlap": [{"first": "masked", "second": "grasp", "jaccard": 0.31, "by_chance": 0.14, "layers": []}],
        "memory": {"estimated_bytes": {}, "peak_rss_bytes": 500_000_000, "growth_bytes": 1},
        "seconds": 12.5,
        "command": "ntksap analyze runs/a",
        "versions": {},
    }  # fmt: skip


def page_of(tree: dict[str, Any]) -> Page:
    return Page(render_analysis(tree)[0])


def test_every_network_is_in_the_spectrum_and_in_the_tables() -> None:
    page = page_of(analysis())

    check_self_contained(page)
    spectrum = " ".join(next(words for words in page.pictures if "Eigenvalues of the kernel, by rank." in words[0]))
    for name in ("dense", "masked", "epoch 5", "trained", "grasp"):
        assert name in spectrum
    tables = {table.name: table for table in document(analysis()).tables()}
    assert {"kernels", "isometry", "layer_isometry", "structure", "overlap"} == set(tables)
    assert 5 == len(tables["kernels"].rows)
    assert ["dense", "masked", "grasp"] == [row[0] for row in tables["structure"].rows]


def test_the_first_lines_say_who_is_nearest() -> None:
    lines = dict(document(analysis()).lines)

    assert "nearest first: grasp 0.5, masked 0.6." in lines["NTK spectrum"]
    assert "dense 2.499, masked 0.1499" in lines["Mean JSV"]
    assert "masked 20.0 % of 25.0 %" in lines["Effective density"]


def test_pictures_of_layers_are_of_masks_and_not_of_every_epoch() -> None:
    titles = [words[0] for words in page_of(analysis()).pictures]

    layers = [title for title in titles if title.startswith("Mean singular value of each layer")]
    assert ["masked", "trained", "grasp"] == [title.split(": ")[1].split(".")[0] for title in layers]
    assert 2 == sum(title.startswith("Density of each layer") for title in titles)
    along = ["Alignment with the dense kernel at initialization", "Top eigenvalue of the kernel"]
    assert along == [title for title in titles if title in along]


def test_without_epochs_nothing_is_said_of_training() -> None:
    tree = analysis()
    tree["networks"] = [network("dense"), network("grasp")]

    assert "training" not in [section.id for section in document(tree).sections]


def test_parts_that_were_not_asked_for_are_said() -> None:
    tree = analysis()
    for entry in tree["networks"]:
        for part in ("ntk", "trace", "isometry", "structure"):
            del entry[part]
    tree["overlap"] = []

    page = page_of(tree)

    for part in ("ntk", "isometry", "structure"):
        assert f"Not asked for: --only goes without {part}." in page.text
    assert "There are no two masks to compare." in page.text
    assert [] == page.pictures


def test_a_network_without_any_isometry_has_bars() -> None:
    tree = analysis()
    tree["networks"][1]["isometry"]["mean"] = 0.0

    assert any("Mean singular value, and from" in words[0] for words in page_of(tree).pictures)


def test_rows_are_flat_and_missing_parts_are_none() -> None:
    bare = {key: value for key, value in network("bare").items() if key not in ("ntk", "isometry", "trace")}

    first, second = analysis_rows([network("dense"), bare])

    assert (300_010.0, 2.4987, 5e5, 7) == (
        first["ntk_trace"], first["jsv_mean"], first["ntk_full_trace"], first["live_channels"]
    )  # fmt: skip
    assert (None, None, None, 7) == (
        second["ntk_trace"], second["jsv_mean"], second["ntk_full_trace"], second["live_channels"]
    )  # fmt: skip


def test_a_mask_is_shown_once_in_the_structure() -> None:
    names = [entry["name"] for entry in distinct_masks(analysis()["networks"])]

    assert ["dense", "masked", "grasp"] == names


def test_hostile_names_do_no_harm() -> None:
    html, _ = render_analysis(hostile(analysis()))

    check_self_contained(Page(html))
    assert HOSTILE not in html


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004, "0.0004"), (2.49871, "2.499"), (92264.4, "92,264"), (1234567.0, "1.235e+06"), (1e-7, "1e-07"),
     (0.0, "0"), (None, "n/a"), (float("inf"), "n/a"), (1000.0, "1,000")],
)  # fmt: skip
def test_numbers_of_any_magnitude_are_readable(value: float | None, text: str) -> None:
    assert text == significant(value)
