"""Images per second of a training step under a mask: ours, and the loop that most codes have.

    python benchmarks/training.py

`plain` is that loop: float32, the mask multiplied into each weight in the forward pass, SGD without fused kernels.
`ours` is the step that `ntksap train` makes (`training.work`): bf16 where the hardware multiplies it fast, channels
last, fused SGD, gradients masked in one call. `ours, compiled` adds `--compile default` (on a GPU also
`reduce-overhead`, which uses CUDA graphs). Interleaved step by step, on one fixed batch. The share of the peak is
6 x MACs x images/s (forward, and twice that backward) over what a large matrix product in the same numbers reaches
here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import interleave, ratios, save
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ntksap_export import Mask, models
from ntksap_export.masks import layer_costs
from ntksap_export.training import TrainConfig
from ntksap_export.training.work import begin

Step = Callable[[], object]
# name, classes, side in pixels, batch, steps, modes of torch.compile
CASES: dict[str, tuple[tuple[str, int, int, int, int, tuple[str, ...]], ...]] = {
    "cpu": (("resnet20", 10, 32, 128, 30, ("default",)), ("resnet50", 1000, 224, 16, 8, ())),
    "cuda": (
        ("resnet20", 10, 32, 512, 60, ("default", "reduce-overhead")),
        ("resnet50", 1000, 224, 256, 30, ("default",)),
    ),
}
_DENSITY = 0.1
_PEAK_SIDE = {"cpu": 2048, "cuda": 8192}


class _Times(nn.Module):
    """A weight times its mask, in every forward pass."""

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.float())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.kept


def mask_of(model: nn.Module) -> Mask:
    generator = torch.Generator().manual_seed(0)
    return Mask(
        {name: torch.rand(kept.shape, generator=generator) < _DENSITY for name, kept in Mask.dense(model).items()}
    )


def plain(name: str, classes: int, images: torch.Tensor, labels: torch.Tensor) -> Step:
    model = models.build(name, classes)
    for key, kept in mask_of(model).items():
        module, _, weight = key.rpartition(".")
        parametrize.register_parametrization(model.get_submodule(module), weight, _Times(kept))
    model.to(images.device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False, fused=False
    )

    def step() -> None:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ours(name: str, classes: int, images: torch.Tensor, labels: torch.Tensor, compile: str = "none") -> Step:
    model = models.build(name, classes)
    mask = mask_of(model)
    work = begin(model.to(images.device).train(), mask, TrainConfig(epochs=1, lr=0.01, compile=compile))
    images = images.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        work.backward(images, labels, len(labels), "")
        work.apply(0.01)

    return step


def peak(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product: the best of some."""
    side = _PEAK_SIDE[device]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = interleave({"matmul": lambda: a @ b}, 10)["matmul"]
    return 2 * side**3 / min(times)


def measure(device: str, case: tuple[str, int, int, int, int, tuple[str, ...]]) -> tuple[dict[str, Any], list[str]]:
    name, classes, side, batch, runs, modes = case
    images = torch.randn(batch, 3, side, side, device=device)
    labels = torch.randint(classes, (batch,), device=device)
    steps = {"plain": plain(name, classes, images, labels), "ours": ours(name, classes, images, labels)}
    for mode in modes:
        steps[f"ours, {mode}"] = ours(name, classes, images, labels, mode)
    warm = {}
    for key, step in steps.items():
        start = time.perf_counter()
        step()
        warm[key] = time.perf_counter() - start
    times = interleave(steps, runs, warmup=3)
    macs = sum(cost.macs for cost in layer_costs(models.build(name, classes), (3, side, side)))
    precision = begin(
        models.build(name, classes).to(device), mask_of(models.build(name, classes)), TrainConfig(1)
    ).precision
    tops = {"fp32": peak(device, torch.float32), "bf16": peak(device, torch.bfloat16)}
    row: dict[str, Any] = {
        "model": name, "image_size": side, "batch": batch, "device": device, "precision": precision, "macs": macs,
        "peak_flop_per_s": tops, "first_step_s": warm, "times_s": times, "ratios": {},
    }  # fmt: skip
    lines = [
        f"{name} at {side}x{side}, batch {batch}, {device}, ours in {precision}, n = {runs} steps each, interleaved"
    ]
    for key in steps:
        rate = batch / statistics.median(times[key])
        share = 6 * macs * rate / tops["fp32" if key == "plain" else precision]
        row["ratios"][key] = speed = ratios({key: times["plain"], "plain": times[key]}, key, "plain")
        lines.append(
            f"  {key:<22} {rate:9.1f} images/s  {1000 * batch / rate:8.1f} ms a step  {speed['median']:5.2f}x plain "
            f"(quartiles {speed['q1']:.2f} to {speed['q3']:.2f})  {share:5.1%} of the peak  "
            f"first step {warm[key]:.1f} s"
        )
    return row, lines


def run(device: str) -> None:
    rows, lines = [], []
    for case in CASES[device]:
        row, text = measure(device, case)
        rows.append(row)
        lines += text
    save("training" if device == "cpu" else "training_cuda", rows, "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(CASES), default="cpu")
    run(parser.parse_args().device)


if __name__ == "__main__":
    main()
