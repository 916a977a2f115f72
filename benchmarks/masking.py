"""What keeping pruned weights at zero costs in training.

    python benchmarks/masking.py

Two views: the call itself (the fused multiplication of the gradients, right after a backward pass) as a share of the
step it stands in; and whole steps with and without it, interleaved, whose difference is smaller than their noise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from common import interleave, ratios, save
from torch.nn import functional

from ntksap_export import Mask, keep_pruned, models

CASES = (("resnet20", 32, 128, 60), ("resnet50", 64, 32, 40), ("resnet50", 224, 16, 10))


def step(name: str, size: int, batch: int, pruned: bool, device: str, calls: list[float]) -> Callable[[], object]:
    """A bf16 training step, as the training loop makes it; with a mask, seconds of its call go to `calls`."""
    model = models.build(name, 10).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    started = 0.0

    def before(*_: object) -> None:
        nonlocal started
        synchronize(device)
        started = time.perf_counter()

    def after(*_: object) -> None:
        synchronize(device)
        calls.append(time.perf_counter() - started)

    if pruned:
        generator = torch.Generator().manual_seed(0)
        mask = Mask({n: torch.rand(m.shape, generator=generator) < 0.1 for n, m in Mask.dense(model).items()})
        optimizer.register_step_pre_hook(before)  # hooks run in the order they are registered
        keep_pruned(optimizer, model, mask)
        optimizer.register_step_pre_hook(after)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)

    def run() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, lines = [], []
    for name, size, batch, runs in CASES:
        calls: list[float] = []
        steps = {pruned: step(name, size, batch, pruned, device, calls) for pruned in (True, False)}
        times = interleave({"masked": steps[True], "plain": steps[False]}, runs)
        ratio = ratios(times, "masked", "plain")
        plain, call = statistics.median(times["plain"]), statistics.median(calls[-runs:])
        row = {"model": name, "image_size": size, "batch": batch, "device": device}
        rows.append({**row, "call_share": call / plain, "ratio": ratio, "times_s": times, "calls_s": calls[-runs:]})
        lines.append(
            f"{name:<9} {size:>4} px  batch {batch:>4}  {device}  step {1000 * plain:7.1f} ms  "
            f"masking call {1000 * call:6.2f} ms = {call / plain:.2%} of it;  "
            f"masked / plain {ratio['median']:.3f} (quartiles {ratio['q1']:.3f} to {ratio['q3']:.3f}, n = {ratio['n']})"
        )
    save("masking" if device == "cpu" else "masking_cuda", rows, "\n".join(lines))


if __name__ == "__main__":
    main()
