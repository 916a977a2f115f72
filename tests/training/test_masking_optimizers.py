"""keep_pruned() under every optimizer of torch, with closures, averages, wrappers and a state that is read back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ntksap_export.masks import Mask
from ntksap_export.training import keep_pruned

from ..support.nets import random_mask

Make = Callable[[Iterable[nn.Parameter]], optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd fused": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True),
    "sgd foreach": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1, foreach=True),
    "sgd maximize": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, maximize=True),
    "adam fused": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1, fused=True),
    "adam foreach amsgrad": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True, foreach=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "adamax": lambda p: optim.Adamax(p, lr=0.05, weight_decay=0.1),
    "adamax foreach": lambda p: optim.Adamax(p, lr=0.05, weight_decay=0.1, foreach=True),
    "nadam": lambda p: optim.NAdam(p, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda p: optim.RAdam(p, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1, weight_decay=0.1, initial_accumulator_value=0.5),
    "adagrad fused": lambda p: optim.Adagrad(p, lr=0.1, fused=True),
    "adadelta": lambda p: optim.Adadelta(p, weight_decay=0.1),
    "asgd": lambda p: optim.ASGD(p, lr=0.1, t0=2, weight_decay=0.1),
    "rprop": lambda p: optim.Rprop(p, lr=0.1),
    "adafactor": lambda p: optim.Adafactor(p, lr=0.1, weight_decay=0.1),
    "muon": lambda p: optim.Muon(p, lr=0.1, weight_decay=0.1, momentum=0.9),
    "lbfgs": lambda p: optim.LBFGS(p, lr=0.5, max_iter=3),
    "lbfgs wolfe": lambda p: optim.LBFGS(p, line_search_fn="strong_wolfe", max_iter=4),
}


def network() -> nn.Sequential:
    """Weights of two dimensions only, and no bias: all that Muon takes."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6, bias=False), nn.Tanh(), nn.Linear(6, 3, bias=False))


def closure_of(model: nn.Module, optimizer: optim.Optimizer, seed: int) -> Callable[[], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, targets = torch.randn(8, 5, generator=generator), torch.randn(8, 3, generator=generator)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (model(images) - targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def step(model: nn.Module, optimizer: optim.Optimizer, seed: int) -> None:
    """As training loops do; with a closure where the optimizer asks for one."""
    closure = closure_of(model, optimizer, seed)
    if isinstance(optimizer, optim.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def pruned_values(model: nn.Module, optimizer: optim.Optimizer, mask: Mask) -> dict[str, int]:
    """How many pruned places are not zero: in each weight, and in each state of its shape."""
    counts = {}
    for name, kept in mask.items():
        weight = model.get_parameter(name)
        counts[name] = int(torch.count_nonzero(weight[~kept]))
        for key, value in optimizer.state.get(weight, {}).items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                counts[f"{name} {key}"] = int(torch.count_nonzero(value[~kept]))
    return counts


def check_pruned(model: nn.Module, optimizer: optim.Optimizer, mask: Mask) -> None:
    found = pruned_values(model, optimizer, mask)

    assert dict.fromkeys(found, 0) == found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_and_state_are_zero_after_each_step(name: str) -> None:
    model = network()
    mask = random_mask(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    for seed in range(3):  # so that there is a state to revive a weight with
        step(model, optimizer, seed)
    before = {key: model.get_parameter(key).detach().clone() for key in mask}

    keep_pruned(optimizer, model, mask)
    for seed in range(3, 8):
        step(model, optimizer, seed)

        check_pruned(model, optimizer, mask)
    assert all(bool((model.get_parameter(key) != before[key])[kept].all()) for key, kept in mask.items())


@pytest.mark.parametrize("name", ["sgd fused", "adamw", "adamax", "muon", "lbfgs"])
def test_a_state_read_back_from_an_unpruned_training_revives_nothing(name: str) -> None:
    model, other = network(), network()
    unpruned, optimizer = (OPTIMIZERS[name](net.parameters()) for net in (other, model))
    for seed in range(3):
        step(other, unpruned, seed)
    mask = random_mask(model)
    keep_pruned(optimizer, model, mask)

    optimizer.load_state_dict(unpruned.state_dict())
    for seed in range(2):
        step(model, optimizer, seed)

        check_pruned(model, optimizer, mask)


def test_lbfgs_looks_at_the_pruned_network_only() -> None:
    model = network()
    mask = random_mask(model)
    optimizer = OPTIMIZERS["lbfgs wolfe"](model.parameters())
    for seed in range(3):  # a history that leads elsewhere
        step(model, optimizer, seed)
    keep_pruned(optimizer, model, mask)
    closure, revived = closure_of(model, optimizer, 3), []

    def watched() -> torch.Tensor:
        revived.append(sum(int(torch.count_nonzero(model.get_parameter(name)[~kept])) for name, kept in mask.items()))
        return closure()

    optimizer.step(watched)

    assert len(revived) > 1
    assert [0] * len(revived) == revived


@pytest.mark.parametrize("as_keyword", [False, True])
def test_gradients_that_a_closure_makes_are_masked(as_keyword: bool) -> None:
    model = network()
    mask = random_mask(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    keep_pruned(optimizer, model, mask)
    closure = closure_of(model, optimizer, 0)

    loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)

    assert loss > 0
    check_pruned(model, optimizer, mask)


def test_a_subclass_that_moves_weights_its_own_way_is_repaired() -> None:
    class Noisy(optim.SGD):
        @torch.no_grad()
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(1.0)

    model = network()
    mask = random_mask(model)
    optimizer = Noisy(model.parameters(), lr=0.1)
    handle = keep_pruned(optimizer, model, mask)

    optimizer.step()
    check_pruned(model, optimizer, mask)
    handle.remove()
    optimizer.step()

    assert {name: int((~kept).sum()) for name, kept in mask.items()} == pruned_values(model, optimizer, mask)


@pytest.mark.parametrize("average", ["equal", "ema", "copy"])
def test_an_average_of_masked_weights_is_masked(average: str) -> None:
    model = network()
    mask = random_mask(model)
    optimizer = OPTIMIZERS["sgd fused"](model.parameters())
    keep_pruned(optimizer, model, mask)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9) if average == "ema" else None)
    copied = copy.deepcopy(model)

    for seed in range(4):
        step(model, optimizer, seed)
        averaged.update_parameters(model)
        for mean, weight in zip(copied.parameters(), model.parameters(), strict=True):
            mean.data.lerp_(weight.data, 0.1)

    shown = copied if average == "copy" else averaged.module
    assert all(torch.equal(kept, shown.get_parameter(name) != 0) for name, kept in mask.items())


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_model_in_ddp_is_found_within_its_wrapper(group_of_one: None) -> None:
    model = network()
    mask = random_mask(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = OPTIMIZERS["sgd fused"](wrapped.parameters())

    keep_pruned(optimizer, wrapped, mask)
    for seed in range(3):
        step(wrapped, optimizer, seed)

        check_pruned(model, optimizer, mask)


def test_a_compiled_model_is_found_within_its_wrapper() -> None:
    model = network()
    mask = random_mask(model)
    compiled = torch.compile(model, backend="eager")
    optimizer = OPTIMIZERS["sgd fused"](model.parameters())

    keep_pruned(optimizer, compiled, mask)
    step(model, optimizer, 0)

    check_pruned(model, optimizer, mask)


def test_the_handle_lasts_as_long_as_its_block() -> None:
    model = network()
    optimizer = OPTIMIZERS["muon"](model.parameters())

    with keep_pruned(optimizer, model, random_mask(model)):
        assert optimizer._optimizer_step_post_hooks

    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
