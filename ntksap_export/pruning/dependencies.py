"""Which layers a channel runs through: torch-pruning's dependency graph, read and never let prune.

The only module that imports torch_pruning (its `__version__` says 1.6.0 in 1.6.1; ask importlib.metadata). Its habits,
and what is done about them:

- it calls `model(*inputs)` and, after any error, `model(inputs)`: a bare batch of one would run as one unbatched image;
- it treats every operator that it does not know as element-wise, and drops one of two channels that meet at one place:
  what it says is a claim, which `channel_groups` puts to the test;
- it takes a PReLU with one slope for a layer of one channel: it gets to see a leaky ReLU;
- it walks in circles, for hours, where one layer runs twice: such a model is refused;
- it traces autograd: frozen parameters and a caller's `no_grad` would hide layers;
- it switches the model to eval mode, and replaces parameters when it prunes: it gets a copy, and prunes nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import nn
from torch.nn import functional

from ntksap_export.errors import ConfigError

Side = Literal["out", "in"]

# Named in no message: whatever else a model has is the likelier cause when its channels cannot be followed.
_FOLLOWED = {
    *("Add", "Sub", "Mul", "Div", "Neg", "Mean", "Cat", "T", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D"),
    *("Relu", "Relu6", "Elu", "Gelu", "Silu", "Sigmoid", "Tanh", "LeakyRelu", "PreluKernel", "Hardtanh", "Hardswish"),
    *("Hardsigmoid", "Convolution", "Addmm", "NativeBatchNorm", "CudnnBatchNorm", "torch::autograd::AccumulateGrad"),
}


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the channels of a root layer stand in another layer.

    Attributes:
        layer: its name.
        side: whether they are its output or its input channels; `out` for layers where both are one (norms, depthwise).
        positions: of the layer's channels on that side, ascending.
        channels: for each position, the root's channel.
    """

    layer: str
    side: Side
    positions: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Coupling:
    """All that must go with the output channels of one layer, as torch-pruning has it.

    Attributes:
        root: the layer's name.
        channels: its output channels.
        reaches: the root itself and every layer that its channels run through.
        operators: what stands between that is no layer, by autograd's names.
        parameters: names of parameters outside torch's own layers that the channels meet.
        is_output: whether these channels are what the model answers with.
    """

    root: str
    channels: int
    reaches: tuple[Reach, ...]
    operators: tuple[str, ...]
    parameters: tuple[str, ...]
    is_output: bool


def couplings(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[Coupling, ...]:
    """Trace a copy of `model` on the CPU; every Conv2d and Linear that runs has its outputs in at least one coupling.

    Args:
        model: left untouched.
        input_shape: (C, H, W).

    Raises:
        ConfigError: the model does not run or cannot be traced; names the module.
    """
    ghost = copy.deepcopy(model).cpu().float().eval().requires_grad_(True)
    hidden = [module for module in ghost.modules() if isinstance(module, nn.PReLU) and module.num_parameters == 1]
    for module in hidden:
        module.forward = functional.leaky_relu  # type: ignore[method-assign]
    images = torch.zeros(1, *input_shape)
    graph = torch_pruning.DependencyGraph()
    # Quiet: it warns of parameters outside of layers and of unknown operators; both are told by the groups' reasons.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        warnings.simplefilter("ignore")
        with naming_failures(ghost, "be traced for the channel pattern"):
            operators = _operators(_checked_outputs(ghost, images))
        try:
            graph.build_dependency(
                ghost,
                images,
                forward_fn=lambda net, batch: net(batch),
                ignored_layers=hidden,
                verbose=False,
            )
            groups = list(graph.get_all_groups())
        except Exception as error:  # of many kinds, none of them its own
            raise ConfigError(
                f"the channels of {type(ghost).__name__} cannot be followed: torch-pruning fails on one of its "
                f"operators {named(operators)} ({type(error).__name__}: {error}); use another --pattern"
            ) from error
    return tuple(_coupling(graph, group, ghost) for group in groups)


def named(operators: Iterable[str]) -> str:
    """Those of `operators` that are not known to be followed, or all of them; by name and without autograd's suffix."""
    short = sorted({operator.partition("Backward")[0] for operator in operators})
    return ", ".join([operator for operator in short if operator not in _FOLLOWED] or short)


@contextmanager
def naming_failures(model: nn.Module, purpose: str) -> Iterator[None]:
    """Turn whatever is raised within into a ConfigError that names the innermost module of `model` then running."""
    running: list[str] = []
    handles = []
    for name, module in model.named_modules():
        label = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
        handles.append(module.register_forward_pre_hook(lambda *_, label=label: running.append(label)))
        handles.append(module.register_forward_hook(lambda *_: _forget(running)))
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        where = running[-1] if running else type(model).__name__
        raise ConfigError(f"the model cannot {purpose}: {where}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()


def _forget(running: list[str]) -> None:
    running.pop()


def _checked_outputs(ghost: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that the model answers with; refused where autograd does not lead back from them to its layers."""
    runs: list[str] = []
    cut: list[str] = []

    def note(name: str, output: object) -> None:
        runs.append(name)
        if isinstance(output, torch.Tensor) and output.grad_fn is None:
            cut.append(name)

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in ghost.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    outputs = tensors_of(ghost(images))
    for handle in handles:
        handle.remove()
    if again := [name for name in runs if runs.count(name) > 1]:
        raise ConfigError(
            f"the channels of '{again[0]}' cannot be followed: it runs {runs.count(again[0])} times in one pass; "
            "use another --pattern"
        )
    if cut:
        raise ConfigError(
            f"the channels of '{cut[0]}' cannot be followed: it runs without gradients; "
            "take it out of no_grad, or use another --pattern"
        )
    if not any(output.grad_fn is not None for output in outputs):
        raise ConfigError(
            f"the channels of {type(ghost).__name__} cannot be followed: its output is detached from its layers; "
            "use another --pattern"
        )
    return outputs


def tensors_of(answer: Any) -> list[torch.Tensor]:
    """Every tensor in what a model answered with, in order."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    if isinstance(answer, Mapping):
        answer = answer.values()
    elif not isinstance(answer, list | tuple):
        return []
    return [tensor for part in answer for tensor in tensors_of(part)]


def _operators(outputs: list[torch.Tensor]) -> set[str]:
    """Autograd's names of everything that made `outputs`."""
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn for output in outputs]
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            waiting += [before for before, _ in step.next_functions]
    return {step.name() for step in seen}


def _coupling(graph: Any, group: Any, ghost: nn.Module) -> Coupling:
    names = {module: name for name, module in ghost.named_modules()}
    parameters = {id(parameter): name for name, parameter in ghost.named_parameters()}
    reaches, operators, met, is_output = [], [], [], False
    for item in group:
        node = item.dep.target
        side = _side(graph, item.dep)
        if id(node.module) in parameters:
            met.append(parameters[id(node.module)])
        elif node.module in names:
            pairs = sorted(zip(item.idxs, item.root_idxs, strict=True))
            positions, channels = (tuple(part) for part in zip(*pairs, strict=True))
            reaches.append(Reach(names[node.module], side, positions, channels))
        elif not isinstance(node.module, torch_pruning.ops._OutputOp):
            operators.append(node.grad_fn.name())
        # The last layer of the model has no node behind it; any other last operator is marked as the output.
        is_output |= isinstance(node.module, torch_pruning.ops._OutputOp) or (side == "out" and not node.outputs)
    return Coupling(
        root=names[group[0].dep.target.module],
        channels=len(group[0].idxs),
        reaches=tuple(reaches),
        operators=tuple(dict.fromkeys(operators)),
        parameters=tuple(met),
        is_output=is_output,
    )


def _side(graph: Any, dependency: Any) -> Side:
    # Norms, depthwise convolutions and operators have one function for both sides.
    return "out" if graph.is_out_channel_pruning_fn(dependency.handler) else "in"
