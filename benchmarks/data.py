"""How fast images reach the model.

    python benchmarks/data.py

Streamed: synthetic JPEGs of 500 x 375 pixels, cut to 224, against plain torchvision (ImageFolder, RandomResizedCrop,
RandomHorizontalFlip, ToTensor, Normalize, DataLoader), epoch by epoch in turn, without and with worker processes that
both keep. In memory: images of CIFAR's size, every augmentation, beside what training resnet20 takes. One thread, so
that a rate is per core; CPU seconds say more than the clock on a machine that others use.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleave, ratios, save
from PIL import Image
from torch.nn import functional

from ntksap_export import data, models
from ntksap_export.hardware import fast_bf16
from ntksap_export.optional import load_torchvision

WIDTH, HEIGHT, SIZE, BATCH = 500, 375, 224, 64
IMAGES, CLASSES, RUNS = 512, 4, 9
CIFAR_IMAGES, CIFAR_BATCH, CIFAR_RUNS = 12_800, 128, 9
KINDS: tuple[dict[str, Any], ...] = (
    {"augment": "none"},
    {"augment": "crop-flip"},
    {"augment": "crop-flip", "cutout": 16},
    {"augment": "crop-flip", "repeats": 3},
    {"augment": "resized-crop"},
)


def jpeg(seed: int) -> bytes:
    """Coloured clouds with some noise: about as many bytes as a photograph of that size."""
    random = np.random.default_rng(seed)
    clouds = Image.fromarray(random.integers(0, 256, (HEIGHT // 12, WIDTH // 12, 3), dtype=np.uint8))
    smooth = np.asarray(clouds.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float64)
    noisy = np.clip(smooth + random.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_folder(root: Path) -> float:
    """Write train/ and val/ and tell the mean size of an image in bytes."""
    sizes = []
    for number in range(IMAGES):
        content = jpeg(number)
        sizes.append(len(content))
        folder = root / "train" / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.jpg").write_bytes(content)
    for name in range(CLASSES):
        (root / "val" / f"class{name}").mkdir(parents=True)
        (root / "val" / f"class{name}" / "0.jpg").write_bytes(jpeg(name))
    return statistics.mean(sizes)


def epoch(batches: Iterable[Any], cpu_s: list[float]) -> Callable[[], object]:
    """Walk through all batches; CPU seconds of this process go to `cpu_s`."""

    def run() -> None:
        start = time.process_time()
        for _ in batches:
            pass
        cpu_s.append(time.process_time() - start)

    return run


def ours(root: Path, workers: int) -> data.Loader:
    return data.loaders(
        str(root), BATCH, SIZE, workers=workers, memory_format=torch.channels_last, augment="resized-crop"
    ).train


def torchvisions(root: Path, workers: int) -> Iterable[Any]:
    transforms = load_torchvision("transforms")
    chain = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = load_torchvision("datasets").ImageFolder(str(root / "train"), chain)
    return torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def streamed() -> tuple[list[dict[str, Any]], list[str]]:
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as scratch:
        size = make_folder(Path(scratch))
        lines.append(f"streamed: {IMAGES} JPEGs of {WIDTH}x{HEIGHT}, {size / 1000:.0f} kB each, cut to {SIZE} px")
        for workers in (0, 2):
            cpu_s: dict[str, list[float]] = {"ours": [], "torchvision": []}
            loader, baseline = ours(Path(scratch), workers), torchvisions(Path(scratch), workers)
            times = interleave(
                {"ours": epoch(loader, cpu_s["ours"]), "torchvision": epoch(baseline, cpu_s["torchvision"])}, RUNS
            )
            rows.append({"kind": "streamed", "workers": workers, "image_bytes": size, "times_s": times, "cpu_s": cpu_s})
            lines += streamed_lines(workers, times, {name: values[-RUNS:] for name, values in cpu_s.items()})
            loader.source.close()
            del baseline
            gc.collect()
    return rows, lines


def streamed_lines(workers: int, times: dict[str, list[float]], cpu_s: dict[str, list[float]]) -> list[str]:
    faster = ratios(times, "torchvision", "ours")
    rates = {name: IMAGES / statistics.median(values) for name, values in times.items()}
    lines = [
        f"  {workers} workers: {rates['ours']:6.0f} images/s, torchvision {rates['torchvision']:6.0f}; "
        f"ratio {faster['median']:.2f} (quartiles {faster['q1']:.2f} to {faster['q3']:.2f}, n = {faster['n']})"
    ]
    if workers == 0:
        per_core = {name: IMAGES / statistics.median(values) for name, values in cpu_s.items()}
        faster = ratios(cpu_s, "torchvision", "ours")
        lines.append(
            f"  of CPU time: {per_core['ours']:6.0f} images/s/core, torchvision {per_core['torchvision']:6.0f}; "
            f"ratio {faster['median']:.2f} (quartiles {faster['q1']:.2f} to {faster['q3']:.2f}, n = {faster['n']})"
        )
    return lines


def in_memory(device: str) -> tuple[list[dict[str, Any]], list[str]]:
    generator = torch.Generator().manual_seed(0)
    shape = (CIFAR_IMAGES, 3, 32, 32)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    source = data.MemorySource(
        images.contiguous(memory_format=torch.channels_last),
        torch.randint(10, (CIFAR_IMAGES,), generator=generator),
    )
    cpu_s: dict[str, list[float]] = {}
    calls = {}
    for options in KINDS:
        name = " ".join(f"{key} {value}" for key, value in options.items())
        asked = data.Augmentation(options["augment"], options.get("cutout", 0), repeats=options.get("repeats", 1))
        names = tuple(str(number) for number in range(10))
        half = (0.5, 0.5, 0.5)
        spec = data.DataSpec("noise", names, 32, half, half, asked, CIFAR_IMAGES, CIFAR_IMAGES)
        loader = data.Loader(
            source, spec, CIFAR_BATCH, train=True, seed=0, device=device, augment=True,
            memory_format=torch.channels_last,
        )  # fmt: skip
        cpu_s[name] = []
        calls[name] = epoch(loader, cpu_s[name])
    times = interleave(calls, CIFAR_RUNS)
    need = CIFAR_BATCH / statistics.median(interleave({"step": training_step(device)}, 15)["step"])
    rows = [
        {"kind": "in memory", "device": device, "augment": name, "times_s": times[name], "cpu_s": cpu_s[name],
         "model_images_per_s": need}
        for name in times
    ]  # fmt: skip
    lines = [f"in memory: 32x32 px, batch {CIFAR_BATCH}, {device}; training resnet20 takes {need:.0f} images/s"]
    for name, values in times.items():
        rate = CIFAR_IMAGES / statistics.median(values)
        lines.append(f"  {name:<30} {rate:9.0f} images/s; {need / rate:.2%} of a training step beside it")
    return rows, lines


def training_step(device: str) -> Callable[[], object]:
    """A step of resnet20 as training makes it, in bf16 where the hardware is fast at it."""
    model = models.build("resnet20", 10).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    images = torch.randn(CIFAR_BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (CIFAR_BATCH,), device=device)

    def run() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=fast_bf16(torch.device(device))):
            loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        rows, lines = streamed()
        more_rows, more_lines = in_memory(device)
        save("data" if device == "cpu" else "data_cuda", rows + more_rows, "\n".join([*lines, "", *more_lines]))
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
