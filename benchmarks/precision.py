"""float32, fp16 and int8 of the same pruned network: bytes, accuracy, latency at batch 1 and 1 thread.

    python benchmarks/precision.py --out runs [--cifar10 FOLDER]

Each network is pruned to 90 % with NTK-SAP, trained, exported with `--fp16 --int8` and timed call by call in turn
(float32, fp16, int8, float32, ...). Directories of runs that are there already are taken as they are. ResNet-50 of
224 x 224 is timed with weights as drawn: nothing here trains it. The last table is what was measured to choose the
method and the number of images of the calibration: root mean square of the logits' error, as a share of their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleave, ratios, save

from ntksap_export import models
from ntksap_export.config import make_config
from ntksap_export.data import DataSet, open_data, scoring_set
from ntksap_export.data.augment import normalize
from ntksap_export.graph import Graph, export, optimize
from ntksap_export.graph.precision import named
from ntksap_export.pipeline import run_road
from ntksap_export.runtime.accuracy import answers, judge
from ntksap_export.runtime.half import to_fp16
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.quantize import METHODS, calibrate, quantize

FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
_SECONDS = 8.0
_IMAGES = (16, 32, 64, 128)
_JUDGED_ON = 2000  # validation images in the last table


def times_of(graphs: dict[str, Path], side: int) -> dict[str, list[float]]:
    """Seconds of each call, in turn."""
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    sessions = {name: OrtSession(path, threads=1) for name, path in graphs.items()}
    calls = {name: session.bind(image) for name, session in sessions.items()}
    once = sum(times[0] for times in interleave(calls, 1).values())
    times = interleave(calls, int(min(500, max(15, _SECONDS / once))), warmup=5)
    for session in sessions.values():
        session.close()
    return times


def timed(name: str, graphs: dict[str, Path], side: int) -> dict[str, Any]:
    times = times_of(graphs, side)
    return {
        "network": name,
        "side": side,
        "bytes": {key: path.stat().st_size for key, path in graphs.items()},
        "times_ms": {key: [round(1000 * value, 4) for value in values] for key, values in times.items()},
        "ratio": {key: ratios(times, key, "fp32") for key in ("fp16", "int8")},
    }


def trained(name: str, out: Path, data: str, epochs: int, rounds: int) -> tuple[dict[str, Any], Path]:
    """A row of the first table, and the directory of the run."""
    directory = out / (name if data == "digits" else f"{name}-cifar10")
    config = make_config(
        {"model": name, "data": data, "epochs": epochs, "rounds": rounds, "fp16": True, "int8": True, "max_drop": 100.0}
    )
    run_road(config, directory, stages=("prune", "train", "export"))
    spec = json.loads((directory / "config.json").read_text())["pretrained_cfg"]
    parity = json.loads((directory / "parity.json").read_text())["precisions"]
    label = f"{name}, {'digits' if data == 'digits' else 'CIFAR-10'}"
    row = timed(label, {key: directory / file for key, file in FILES.items()}, spec["input_size"][1])
    row["accuracy"] = {"fp32": parity["int8"]["accuracy"]["before"]} | {
        key: entry["accuracy"]["after"] for key, entry in parity.items()
    }
    row["agreement"] = {key: entry["accuracy"]["agreement"] for key, entry in parity.items()}
    row["sqnr_db"] = {key: entry["accuracy"]["sqnr_db"] for key, entry in parity.items()}
    row["images"] = parity["int8"]["accuracy"]["images"]
    return row, directory


def drawn(scratch: Path) -> dict[str, Any]:
    """ResNet-50 at 224 x 224, for its latency alone."""
    sample = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    graph = named(optimize(export(models.build("resnet50", 1000), sample))[0])
    made = {
        "fp32": graph,
        "fp16": to_fp16(graph),
        "int8": quantize(graph, calibrate(graph, [sample.numpy()], "minmax")),
    }
    for key, one in made.items():
        one.save(scratch / FILES[key])
    return timed("resnet50 as drawn", {key: scratch / file for key, file in FILES.items()}, 224)


def calibrations(label: str, directory: Path, data: DataSet) -> list[dict[str, Any]]:
    """Rows of the last table: every method and number of images."""
    graph = named(Graph.load(directory / "model.onnx"))
    chosen = list(range(0, len(data.val), -(-len(data.val) // _JUDGED_ON)))
    images = normalize(data.val.take(chosen), data.spec.mean, data.spec.std)
    labels = data.val.labels[chosen].numpy()

    def logits(one: Graph) -> np.ndarray:
        with OrtSession(one.to_bytes(), threads=1) as session:
            return answers(session, [part.numpy() for part in torch.split(images, 50)])

    before, rows = logits(graph), []
    for method in METHODS:
        for count in _IMAGES if method != "entropy" else _IMAGES[-1:]:
            calibration, _ = scoring_set(data, count, 0)
            ranges = calibrate(graph, [part.numpy() for part in torch.split(calibration, 16)], method)
            judged = judge(before, logits(quantize(graph, ranges)), labels)
            rows.append({"network": label, "method": method, **judged.to_json(), "calibrated_on": count})
    return rows


def text(rows: list[dict[str, Any]], choices: list[dict[str, Any]]) -> str:
    lines = [
        f"{'network':<20}{'side':>5}  {'':<5}{'MB':>8}{'top-1':>9}{'same':>9}{'SQNR dB':>9}{'ms':>9}  of fp32's time"
    ]
    for row in rows:
        for key in FILES:
            known = key in row.get("accuracy", {})
            accuracy = f"{row['accuracy'][key]:.2%}" if known else "-"
            same = f"{row['agreement'][key]:.2%}" if known and key != "fp32" else "-"
            noise = f"{row['sqnr_db'][key]:.1f}" if known and key != "fp32" else "-"
            ratio = row["ratio"].get(key)
            spread = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f}), n {ratio['n']}" if ratio else ""
            lines.append(
                f"{row['network'] if key == 'fp32' else '':<20}{row['side'] if key == 'fp32' else '':>5}  {key:<5}"
                f"{row['bytes'][key] / 1e6:>8.2f}{accuracy:>9}{same:>9}{noise:>9}"
                f"{float(np.median(row['times_ms'][key])):>9.2f}  {spread}"
            )
    lines += ["", f"{'rms of the error':<32}" + "".join(f"{f'{count} images':>12}" for count in _IMAGES)]
    for network in dict.fromkeys(row["network"] for row in choices):
        for method in METHODS:
            of_it = [row for row in choices if (row["network"], row["method"]) == (network, method)]
            found = {row["calibrated_on"]: f"{10 ** (-row['sqnr_db'] / 20):.1%}" for row in of_it}
            cells = (f"{found.get(count, '-'):>12}" for count in _IMAGES)
            lines.append(f"{f'{network} {method}':<32}{''.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--cifar10", help="folder of the WebDataset shards, for ResNet-20")
    parser.add_argument("--epochs", type=int, default=3, help="on CIFAR-10; on digits 6")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [("resnet20", "digits", 5, 6), ("resnet50", "digits", 5, 6)]
    jobs += [("resnet20", arguments.cifar10, 20, arguments.epochs)] if arguments.cifar10 else []
    rows, choices = [], []
    for name, data, rounds, epochs in jobs:
        row, directory = trained(name, arguments.out, data, epochs, rounds)
        rows.append(row)
        choices += calibrations(row["network"], directory, open_data(data, image_size=row["side"]))
    with tempfile.TemporaryDirectory() as scratch:
        rows.append(drawn(Path(scratch)))
    save("precision", [*rows, *choices], text(rows, choices))


if __name__ == "__main__":
    main()
