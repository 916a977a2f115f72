"""A small sweep: a tiny network of the user's own on the digits, and a `profile` that takes no time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ntksap_export.profiling.profile import Variant
from ntksap_export.profiling.settings import Settings

TINY = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(nn.functional.avg_pool2d(x, 2).flatten(1))


def make(num_classes):
    return Tiny(num_classes)
"""
SETTINGS: dict[str, Any] = {
    "image_size": 8,
    "method": "magnitude",
    "sparsity": (0.5, 0.75),
    "rounds": 1,
    "epochs": 1,
    "batch_size": 256,
    "precision": "fp32",
    "profile_batch": (1,),
    "profile_threads": (1,),
    "profile_backend": ("onnxruntime",),
    "profile_device": ("cpu",),
}
NAMES = ["dense", "magnitude-unstructured-0.5", "magnitude-unstructured-0.75"]


class FakeProfile:
    """Stands for `profiling.profile.profile`: the smaller the n-th network's place, the slower it is; no process."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Settings, str | None]] = []

    def __call__(
        self, variants: Sequence[Variant], settings: Settings, *, baseline: str | None = None, progress: object = None
    ) -> list[dict[str, Any]]:
        self.calls.append(([f"{variant.name} {variant.precision}" for variant in variants], settings, baseline))
        return [
            measured(variant, backend, batch, 10.0 * batch - place)
            for backend in settings.backends
            for batch in settings.batches
            for place, variant in enumerate(variants)
        ]


def measured(variant: Variant, backend: str, batch: int, p50_ms: float) -> dict[str, Any]:
    """A row of `profile`."""
    file = variant.checkpoint if backend == "torch" else variant.graph
    assert file is not None
    return {
        "variant": variant.name,
        "precision": variant.precision,
        "backend": backend,
        "device": "cpu",
        "batch": batch,
        "threads": 1,
        "status": "measured",
        "reason": None,
        "latency_ms": {"p50": p50_ms, "p90": p50_ms, "p99": p50_ms, "mean": p50_ms, "min": p50_ms, "max": p50_ms},
        "median_ci_ms": [p50_ms - 0.5, p50_ms + 0.5],
        "throughput_images_per_s": 1e3 * batch / p50_ms,
        "runs": 3,
        "noise": "steady",
        "file_bytes": file.stat().st_size,
        "memory": {"run_peak_rss_bytes": 50_000_000, "load_delta_bytes": 1_000_000},
        "times_ms": [p50_ms] * 3,
    }
