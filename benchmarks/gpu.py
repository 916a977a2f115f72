"""Everything that is to be measured on a GPU, in one call; needs nothing but the package and a CUDA device.

    python benchmarks/gpu.py

Walks the road with `--device cuda` for resnet20 and resnet50 on the embedded digits, keeps what the stages report, has
`ntksap analyze` look at resnet20 on 256 images, and runs data.py, masking.py, pruning.py, training.py and profiles.py
(the table of ResNet-50) there. Writes results/gpu.json and results/gpu.txt beside theirs. The paper's table takes hours
and CIFAR-10: `python benchmarks/accuracy.py --suite paper`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import data
import masking
import pruning
import torch
import training
from common import save

from ntksap_export import make_config, run_road
from ntksap_export.pipeline import summary

TABLE = ("--device", "cuda", "--batches", "1,16,64", "--precisions", "fp32,bf16,fp16,int8")


def analysis(scratch: Path) -> float:
    """Seconds of `ntksap analyze`, without its start."""
    flags = ("--device", "cuda", "--images", "256", "--only", "ntk,isometry", "--quiet", "--out", str(scratch / "why"))
    subprocess.run([sys.executable, "-m", "ntksap_export.cli", "analyze", "resnet20", *flags], check=True)
    return float(json.loads((scratch / "why" / "analysis.json").read_text())["seconds"])


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: nothing was measured")
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("resnet20", "resnet50"):
            config = make_config(
                {"model": name, "device": "cuda", "profile_batch": (1, 8, 64), "profile_device": ("cuda",)}
            )
            result = summary(run_road(config, Path(scratch) / name))
            result.pop("out")
            rows.append(result)
            lines.append(
                f"{name}: prune {result['prune_s']:.1f} s, train {result['train_s']:.1f} s, "
                f"accuracy {result['val_accuracy']:.2%}"
            )
            for row in result["latency"]:
                text = f"p50 {row['p50_ms']:.3f} ms" if row["status"] == "measured" else f"skipped: {row['reason']}"
                lines.append(f"  {row['backend']:<12} {row['variant']:<7} batch {row['batch']}: {text}")
        seconds = analysis(Path(scratch))
        rows.append({"analysis": "resnet20", "images": 256, "seconds": seconds})
        lines.append(f"resnet20: kernel and Jacobian on 256 images in {seconds:.1f} s")
    save("gpu", rows, "\n".join(lines))
    data.main()
    masking.main()
    pruning.run("cuda")
    training.run("cuda")
    subprocess.run([sys.executable, Path(__file__).with_name("profiles.py"), *TABLE], check=True)


if __name__ == "__main__":
    main()
