"""The tables of analysis.py, from the rows of its results alone: for analysis.txt, and between marks in the docs.

Free of torch: a test holds the docs to them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import marked
from marked import Row, Table, aligned

# Mean singular value after L1 pruning on MNIST, of the experiment scripts behind Wang et al., arXiv 2105.05916; the
# first of two runs where they differ.
PAPER = {
    "mlp7_linear": ("2.4987", "1.7132", "0.5325", "0.1180", "0.0151", "0.0004"),
    "mlp7": ("1.8265", "1.6664", "1.2583", "0.6295", "0.1334", "0.0055"),
    "lenet5_linear": ("3.7455", "3.3744", "2.5529", "1.5176", "0.4221", "0.1126"),
    "lenet5": ("3.0128", "2.8606", "2.5970", "1.8385", "0.6943", "0.1847"),
}
RATIOS = ("0", "0.1", "0.3", "0.5", "0.7", "0.9")
TITLES = {
    "spectra": "NTK of ResNet-20 at 73.8 % sparsity, of each logit",
    "spectra_sum": "The same of the sum of the logits, mean of three initializations",
    "jacobians": "Mean singular value of the Jacobian after L1 pruning",
    "mlp7": "MLP-7-Linear, 80 % of the neurons of each layer removed",
    "resnet20": "ResNet-20 on CIFAR-10 at 70 % sparsity",
}


def text(rows: Sequence[Row]) -> str:
    """All of it, for analysis.txt."""
    parts = [f"## {TITLES[name]}\n\n{found}" for name, make in TABLES.items() if (found := make(rows))]
    return "\n\n".join([*parts, f"## Commands and seconds\n\n{commands(rows)}"])


def fill(document: str, rows: Sequence[Row]) -> str:
    """A document with its tables as the rows have them.

    Raises:
        KeyError: a mark names no table.
    """
    return marked.fill(document, "analysis", TABLES, rows)


def spectra(rows: Sequence[Row]) -> str:
    """The kernels of single logits."""
    return _spectra(rows, "spectra")


def spectra_sum(rows: Sequence[Row]) -> str:
    """The kernel of their sum."""
    return _spectra(rows, "spectra-sum")


def _spectra(rows: Sequence[Row], job: str) -> str:
    """One line a network: what its kernel is beside the dense one's, and what its mask left."""
    networks = next((row["networks"] for row in rows if row["job"] == job), None)
    if networks is None:
        return ""
    heads = (
        "network", "density", "effective", "trace", "top eigenvalue", "of dense", "condition", "effective rank",
        "alignment", "distance, decades", "relative distance",
    )  # fmt: skip
    return aligned(heads, [_spectrum(network, networks[0]["ntk"]) for network in networks], 1)


def _spectrum(network: Row, dense: Row) -> list[str]:
    ntk = network["ntk"]
    return [
        network["name"].removeprefix("spectra-"),
        f"{network['density']:.3f}",
        _number(network.get("structure", {}).get("effective_density"), ".3f"),
        _number(ntk["trace"]),
        _number(ntk["top"]),
        f"{ntk['top'] / dense['top']:.3f}",
        _number(ntk["condition"]),
        _number(ntk["effective_rank"]),
        _number(ntk.get("alignment"), ".3f"),
        _number(ntk.get("distance_log10"), ".3f"),
        _number(ntk.get("distance_relative"), ".3f"),
    ]


def jacobians(rows: Sequence[Row]) -> str:
    """One line a network, one column a share of the filters that went; the paper's numbers below ours."""
    lines = []
    for network, paper in PAPER.items():
        own = [_mean(rows, f"jacobians-{network}-{ratio}") for ratio in RATIOS]
        if any(own):
            lines += [[network, *own], ["the paper", *paper]]
    return aligned(("filters removed", *(f"{float(ratio):.0%}" for ratio in RATIOS)), lines, 1) if lines else ""


def _mean(rows: Sequence[Row], job: str) -> str:
    found = next((row for row in rows if row["job"] == job), None)
    return "" if found is None else f"{found['isometry']['mean']:.4f}"


def mlp7(rows: Sequence[Row]) -> str:
    """Accuracy over the seeds, and the mean singular value that fine-tuning starts from."""
    lines = []
    for how, label in (("none", "L1"), ("orthp", "L1 + OrthP")):
        cells = []
        for rate in ("0.01", "0.001"):
            found = [row for row in rows if row["suite"] == "mlp7" and row["job"].startswith(f"mlp7-{how}-{rate}-")]
            cells.append(_spread([row["final_accuracy"] for row in found]))
        starts = [row["start_jsv"] for row in rows if row["job"].startswith(f"mlp7-{how}-") and "start_jsv" in row]
        if any(cells):
            lines.append([label, *cells, _number(starts[0] if starts else None)])
    return aligned(("", "rate 1e-2", "rate 1e-3", "mean JSV before fine-tuning"), lines, 1)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def resnet20(rows: Sequence[Row]) -> str:
    """One line a method: what it kept, what it cost in epochs, how good it is."""
    names = {
        "resnet20-dense": "dense",
        "resnet20-l1": "L1 filters, fine-tuned",
        "resnet20-l1-orthp": "L1 filters + OrthP, fine-tuned",
        "resnet20-tpp": "TPP, fine-tuned",
        "resnet20-ntksap": "NTK-SAP, before training",
        "resnet20-lottery": "lottery ticket",
    }
    found = {row["job"]: row for row in rows if row["suite"] == "resnet20"}
    lines = [
        [
            label,
            f"{found[job]['density']:.3f}",
            f"{found[job]['flop_density']:.3f}",
            str(epochs_of(found[job])),
            f"{100 * found[job]['final_accuracy']:.2f}",
            _recovered(found[job].get("recovery")),
            f"{sum(found[job]['seconds']):.0f}",
        ]
        for job, label in names.items()
        if job in found
    ]
    heads = ("", "density", "FLOP density", "epochs in all", "accuracy, %", "mean JSV, before and after", "seconds")
    return aligned(heads, lines, 1) if lines else ""


def epochs_of(row: Row) -> int:
    """Epochs of training that the network has behind it, those of the dense one and of the search among them."""
    searched = sum(item.get("epochs", 0) for item in (row.get("search") or {}).get("rounds", ()))
    return int(searched) + len(row["history"]) + int(row.get("start_epochs", 0))


def _recovered(recovery: dict[str, Any] | None) -> str:
    if not recovery or not recovery.get("before") or not recovery.get("after"):
        return ""
    return f"{_number(recovery['before']['mean'])}, {_number(recovery['after']['mean'])}"


def commands(rows: Sequence[Row]) -> str:
    """Every command and what it took."""
    return "\n".join(
        f"{seconds:8.1f} s  {command}"
        for row in rows
        for command, seconds in zip(row["commands"], row["seconds"], strict=False)
    )


def _number(value: float | None, form: str = ".3g") -> str:
    return "" if value is None else f"{value:{form}}"


TABLES: dict[str, Table] = {
    "spectra": spectra,
    "spectra_sum": spectra_sum,
    "jacobians": jacobians,
    "mlp7": mlp7,
    "resnet20": resnet20,
}
