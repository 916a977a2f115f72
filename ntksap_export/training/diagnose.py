"""Where a NaN came from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


@torch.no_grad()
def first_bad_layer(model: nn.Module, images: torch.Tensor) -> str:
    """Name the first layer, in the order of execution, whose weights or output are NaN or infinite.

    Runs one forward pass; buffers and mode are left as found.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            bad_weight = [key for key, p in module.named_parameters(recurse=False) if not bool(p.isfinite().all())]
            if bad_weight:
                found.append(f"{name}.{bad_weight[0]}")
            elif isinstance(output, torch.Tensor) and not bool(output.isfinite().all()):
                found.append(f"{name} (its output)")

        return hook

    modules = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in modules]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return found[0] if found else "the loss itself (all layers' outputs are finite)"
