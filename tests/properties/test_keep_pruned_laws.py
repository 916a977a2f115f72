"""A pruned weight is exactly zero after any number of steps, and a living one does not notice the mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ntksap_export.masks import Mask
from ntksap_export.training import keep_pruned

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "nesterov fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5, fused=True),
    "heavy ball": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.99, dampening=0.1, weight_decay=0.3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, fused=True),
    "adam amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def layers() -> nn.Sequential:
    """Two weights and two biases, as they are drawn."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 5))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """The state that stands beside each weight."""
    state: dict[str, Any] = optimizer.state[parameter]
    return {key: value for key, value in state.items() if getattr(value, "shape", None) == parameter.shape}


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(deadline=None, max_examples=12)
@given(before=st.integers(0, 3), after=st.integers(1, 12), density=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_pruned_stays_zero_and_the_rest_moves_freely(
    name: str, before: int, after: int, density: float, seed: int
) -> None:
    model, free = layers(), layers()
    free.load_state_dict(model.state_dict())
    optimizers = OPTIMIZERS[name](model.parameters()), OPTIMIZERS[name](free.parameters())
    generator = torch.Generator().manual_seed(seed)
    mask = Mask({key: torch.rand(kept.shape, generator=generator) < density for key, kept in Mask.dense(model).items()})
    streams = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for _ in range(before):  # so that there is momentum to revive a weight with
        step(model, optimizers[0], streams[0])
        step(free, optimizers[1], streams[1])

    keep_pruned(optimizers[0], model, mask)
    for _ in range(after):
        step(model, optimizers[0], streams[0])
        step(free, optimizers[1], streams[1])

        for key, kept in mask.items():
            weight = model.get_parameter(key)
            assert 0 == torch.count_nonzero(weight[~kept])
            for part, value in state_of(optimizers[0], weight).items():
                assert 0 == torch.count_nonzero(value[~kept]), part
    for key, parameter in model.named_parameters():
        kept = mask[key] if key in mask else torch.ones_like(parameter, dtype=torch.bool)
        torch.testing.assert_close(free.get_parameter(key)[kept], parameter[kept], rtol=1e-6, atol=1e-6)
