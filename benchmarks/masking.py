"""What keeping pruned weights at zero costs: a training step with and without `keep_pruned`, interleaved.

python benchmarks/masking.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from common import interleave, ratios, save
from torch.nn import functional

from ntksap_export import Mask, keep_pruned, models

CASES = (("resnet20", 32, 128, 60), ("resnet50", 64, 32, 40), ("resnet50", 224, 16, 10))


def step(name: str, size: int, batch: int, pruned: bool, device: str) -> Callable[[], object]:
    """A bf16 training step, as the training loop makes it."""
    model = models.build(name, 10).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    if pruned:
        generator = torch.Generator().manual_seed(0)
        mask = Mask({n: torch.rand(m.shape, generator=generator) < 0.1 for n, m in Mask.dense(model).items()})
        keep_pruned(optimizer, model, mask)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)

    def run() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, lines = [], []
    for name, size, batch, runs in CASES:
        calls = {"masked": step(name, size, batch, True, device), "plain": step(name, size, batch, False, device)}
        times = interleave(calls, runs)
        ratio = ratios(times, "masked", "plain")
        rows.append(
            {"model": name, "image_size": size, "batch": batch, "device": device, "ratio": ratio, "times_s": times}
        )
        medians = {key: 1000 * statistics.median(values) for key, values in times.items()}
        size_text = f"{name:<9} {size:>4} px  batch {batch:>4}  {device}"
        lines.append(
            f"{size_text}  plain {medians['plain']:8.1f} ms  masked {medians['masked']:8.1f} ms  "
            f"ratio {ratio['median']:.4f} (quartiles {ratio['q1']:.4f} to {ratio['q3']:.4f}, n = {ratio['n']})"
        )
    save("masking" if device == "cpu" else "masking_cuda", rows, "\n".join(lines))


if __name__ == "__main__":
    main()
