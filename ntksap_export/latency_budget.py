"""What `--budget` says: a latency to meet, with all that a latency depends on.

latency=5ms@onnxruntime,batch=1,threads=2
latency=800us                               # onnxruntime, cpu, batch 1, all CPUs
flops=0.25, params=1M, sparsity=0.9         # other ways to write --flops, --params, --sparsity
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ntksap_export.errors import ConfigError
from ntksap_export.quoting import shown

_EXAMPLE: Final = "latency=5ms@onnxruntime,batch=1,threads=2"
_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_BACKENDS: Final = ("onnxruntime", "openvino", "tensorrt")  # a table is measured on ONNX graphs
_DEVICES: Final = ("cpu", "cuda")
_SAME_AS_FLAGS: Final = ("sparsity", "density", "flops", "params")


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """A latency of one call that a network has to meet, and under what.

    Attributes:
        ms: the median of a call, above 0.
        backend: one that runs an ONNX graph.
        device: `cpu` or `cuda`.
        batch: images of a call.
        threads: of one operator; None is all CPUs of the process.
    """

    ms: float
    backend: str = "onnxruntime"
    device: str = "cpu"
    batch: int = 1
    threads: int | None = None

    @classmethod
    def parse(cls, text: str) -> LatencyBudget:
        """Read what stands behind `--budget`, `latency=...`.

        Raises:
            ConfigError: it does not say a latency; names the part, and how to write it.
        """
        head, *options = (part.strip() for part in text.split(","))
        key, _, value = head.partition("=")
        if key.strip() != "latency":
            raise ConfigError(f"budget must begin with latency=; got {shown(text)}. Write {_EXAMPLE}")
        duration, at, backend = (part.strip() for part in value.partition("@"))
        budget = cls(_milliseconds(duration), _member("backend", backend, _BACKENDS) if at else "onnxruntime")
        given: dict[str, Any] = {}
        for option in options:
            name, equals, value = (part.strip() for part in option.partition("="))
            if name not in ("batch", "threads", "device") or not equals:
                raise ConfigError(f"budget takes batch=, threads= and device= behind the latency; got {shown(option)}")
            if name in given:
                raise ConfigError(f"budget says {name} twice; leave one of them away")
            given[name] = _option(name, value)
        budget = replace(budget, **given)
        if budget.backend == "tensorrt" and budget.device != "cuda":
            raise ConfigError("budget: tensorrt runs on CUDA devices only; add device=cuda")
        if budget.backend == "openvino" and budget.device != "cpu":
            raise ConfigError("budget: openvino runs on the CPU here; leave device=cuda away")
        return budget

    def with_threads(self, threads: int) -> LatencyBudget:
        """The same with a number of threads, where none is given."""
        return self if self.threads is not None else replace(self, threads=threads)

    def where(self) -> str:
        """What it depends on, in words."""
        threads = "" if self.threads is None else f", {self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{self.backend} on {self.device}, batch {self.batch}{threads}"

    def settings(self) -> dict[str, Any]:
        """All but the latency: what a measurement must have been made with to count here."""
        return {"backend": self.backend, "device": self.device, "batch": self.batch, "threads": self.threads}

    def __str__(self) -> str:
        """The one way to write it; `parse` reads it."""
        parts = [f"latency={self.ms:.9g}ms@{self.backend}", f"batch={self.batch}"]
        parts += [] if self.threads is None else [f"threads={self.threads}"]
        parts += [] if self.device == "cpu" else [f"device={self.device}"]
        return ",".join(parts)


def split_budget(text: str) -> dict[str, str | float]:
    """What `--budget` sets: `budget` itself, in its one way to write it, or the flag that it is another way to write.

    Raises:
        ConfigError: neither of them.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if key in _SAME_AS_FLAGS and equals:
        if key != "params" and not _is_number(value):
            raise ConfigError(f"budget: {key} must be a number such as 0.5; got {shown(value)}")
        return {key: value if key == "params" else float(value)}
    if key != "latency" or not equals:
        raise ConfigError(f"budget must be {_EXAMPLE}, flops=0.25, params=1M or sparsity=0.9; got {shown(text)}")
    return {"budget": str(LatencyBudget.parse(text))}


def reached_text(told: Mapping[str, Any]) -> str:
    """One line: asked, promised and measured side by side, out of `latency` of mask.json."""
    low, high = told["ci_ms"]
    parts = [f"{word} {told[f'{word}_ms']:.4g} ms" for word in ("asked", "promised", "measured", "dense", "narrowest")]
    return f"{', '.join(parts[:3])} ({low:.4g} to {high:.4g}); {', '.join(parts[3:])}"


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)", text, re.ASCII)
    if not found or found[2] not in _UNITS:
        raise ConfigError(f"budget: a latency is a number with us, ms or s, such as 5ms; got {shown(text)}")
    value = float(found[1]) * _UNITS[found[2]]
    if not 0 < value < 1e9:
        raise ConfigError(f"budget: a latency must be above 0; got {shown(text)}")
    return round(value, 9)


def _option(name: str, value: str) -> int | str:
    if name == "device":
        return _member(name, value, _DEVICES)
    if not re.fullmatch(r"[1-9]\d{0,5}", value, re.ASCII):
        raise ConfigError(f"budget: {name} must be a whole number of at least 1; got {shown(value)}")
    return int(value)


def _member(name: str, value: str, members: tuple[str, ...]) -> str:
    if value in members:
        return value
    if value in ("torch", "torch-compile"):
        raise ConfigError(f"budget: layers are timed as ONNX graphs, which {value} does not run; use @onnxruntime")
    raise ConfigError(f"budget: {name} must be {', '.join(members[:-1])} or {members[-1]}; got {shown(value)}")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text, re.ASCII) is not None
