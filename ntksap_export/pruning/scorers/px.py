"""PX, path exclusion: keep the weights on the paths that data opens (Iurada, Ciccone & Tommasi, CVPR 2024).

    R = sum over images x of  g(x^2; m, a(x)) . f(1; (w * m)^2)             a dot product over the logits
    score = | dR / d(w * m)^2 | * (w * m)^2

    f   the network with squared weights and no activations, on an image of ones
    g   the network with weights m (one where kept), each ReLU replaced by a(x), on the image squared
    a   which ReLUs are on in the masked network itself, for the image x: 1 or 0 for each unit and position

g counts the open paths to a logit, each weighed by the pixel it starts from; f is the sum over all paths of the product
of their squared weights. Both are linear in their image, and no term is negative. The images weigh the logits of f and
nothing else: of a dense network all logits of g are equal, and they have no say before the first weights are gone.

Reads images; labels are not used. 100 rounds of an exponential schedule. In float64, and g on images scaled by a power
of two, since it overflows even that in deep networks; its sum is divided by the largest logit. No order changes. A
round costs one such pass over all images, on a CPU some ten times the network's own.

What the paper's formula leaves open, decided here:
- Biases are none in f and g. Norms are the identity there; in a(x) BatchNorm uses batch statistics, as in training.
- Max-pooling picks in g what won in the network itself; in f it is what it is. Average pooling is linear and stays.
- ReLU and ReLU6 (off where it is at 6) are known; others have no on and off, and a network with them is refused.

Where it differs from the reference code: that has carried four different scores; this is the formula of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, call, masked_weights, modes

# From here a float64 has room for almost 600 decades upwards: 190 layers of 1000 inputs. Sums of ones only grow.
_SMALL = 2.0**-930

_RELUS = frozenset({functional.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, functional.relu6})
_NORMS = frozenset(
    {
        functional.batch_norm,
        functional.group_norm,
        functional.instance_norm,
        functional.layer_norm,
        functional.rms_norm,
    }
)
_POOLS: dict[Any, Any] = {
    functional.max_pool2d: functional.max_pool2d_with_indices,
    torch.max_pool2d: functional.max_pool2d_with_indices,
    functional.adaptive_max_pool2d: functional.adaptive_max_pool2d_with_indices,
}
_OTHERS = frozenset(
    {
        *(functional.celu, functional.elu, functional.gelu, functional.glu, functional.hardsigmoid),
        *(functional.hardswish, functional.hardtanh, functional.leaky_relu, functional.mish, functional.prelu),
        *(functional.scaled_dot_product_attention, functional.selu, functional.silu, functional.softmax),
        *(functional.softplus, functional.softsign, torch.sigmoid, torch.softmax, torch.tanh),
        *(torch.Tensor.sigmoid, torch.Tensor.softmax, torch.Tensor.tanh),
    }
)


@dataclass(frozen=True, slots=True)
class Px:
    """The scorer."""

    default_rounds: int = 100
    revives: bool = False

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:  # noqa: ARG002
        """Score every weight of `mask`; see `Scorer.score`.

        Raises:
            ConfigError: there are no images, or the model has an activation that is not on or off.
        """
        real = {name: weight.detach() for name, weight in masked_weights(model, mask).items()}
        squares = {name: weight.double().square().requires_grad_() for name, weight in real.items()}
        ones = torch.ones(1, *inputs.shape, dtype=torch.float64, device=next(model.parameters()).device)
        with modes(model, "batch"):
            with _Linear():
                flow = call(model, {**_rest(model, mask, torch.square), **squares}, ones)[0]
            open_paths = _open_paths(model, mask, inputs, real, flow)
            gradients = torch.autograd.grad((flow * open_paths).sum(), list(squares.values()), materialize_grads=True)
        return {
            name: (gradient * square.detach()).abs_()
            for (name, square), gradient in zip(squares.items(), gradients, strict=True)
        }


@torch.no_grad()
def _open_paths(model: nn.Module, mask: Mask, inputs: ScoringInputs, real: Tensors, flow: torch.Tensor) -> torch.Tensor:
    """The logits of g, summed over all images; the largest is 1. Of the shape of `flow`."""
    counting = {**_rest(model, mask, torch.ones_like), **{name: kept.double() for name, kept in mask.items()}}

    def batch_sum(batch: int) -> Tensors:
        images, _ = inputs.labelled(batch, flow.device)
        with _Recorder() as recorder:
            call(model, real, images)
        with _Linear(iter(recorder.switches)):
            return {"logits": call(model, counting, images.double().square() * _SMALL).sum(0)}

    sums = {"logits": torch.zeros_like(flow)}
    sum_in_order(sums, range(inputs.batches), batch_sum)
    largest = sums["logits"].amax().clamp(min=torch.finfo(torch.float64).tiny)
    return sums["logits"] / largest


def _rest(model: nn.Module, mask: Mask, form: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    """What the mask does not name, in float64: biases as zeros, other parameters in the given form, buffers as is."""
    state = {name: buffer.double() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    for name, parameter in model.named_parameters():
        if name not in mask:
            value = parameter.detach().double()
            state[name] = torch.zeros_like(value) if name.endswith("bias") else form(value)
    return state


class _Recorder(TorchFunctionMode):
    """Within it, the network runs as it is, and its switches are noted in the order in which they are set.

    Attributes:
        switches: for a ReLU bool, which of its outputs are on; for a max-pool int64, the places of the winners.
    """

    def __init__(self) -> None:
        super().__init__()
        self.switches: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_relu(func, kwargs):
            output = func(*args, **kwargs)
            ceiling = 6.0 if func in (functional.relu6, functional.hardtanh) else torch.inf
            self.switches.append((output > 0) & (output < ceiling))
            return output
        if func in _POOLS:
            output, winners = _POOLS[func](*args, **kwargs)
            self.switches.append(winners)
            return output
        if func in _OTHERS:
            raise ConfigError(
                f"px needs activations that are on or off (ReLU, ReLU6); this model calls {func.__name__}; "
                "choose another --method"
            )
        return func(*args, **kwargs)


class _Linear(TorchFunctionMode):
    """Within it, the network is linear: norms are the identity, and ReLUs what `switches` says.

    Args:
        switches: those of a `_Recorder`, in its order; None leaves all ReLUs on and max-pools as they are.
    """

    def __init__(self, switches: Iterator[torch.Tensor] | None = None) -> None:
        super().__init__()
        self._switches = switches

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _NORMS:
            return _first(args, kwargs)
        if _is_relu(func, kwargs):
            x = _first(args, kwargs)
            if self._switches is None:
                return x
            on = next(self._switches)
            in_place = func.__name__.endswith("_") or kwargs.get("inplace") or args[1:2] == (True,)
            return x.mul_(on) if in_place else x * on
        if func in _POOLS and self._switches is not None:
            winners = next(self._switches)
            return _first(args, kwargs).flatten(2).gather(2, winners.flatten(2)).view(winners.shape)
        return func(*args, **kwargs)


def _is_relu(func: Any, kwargs: dict[str, Any]) -> bool:
    # nn.ReLU6 is a hardtanh between 0 and 6.
    limits = (kwargs.get("min_val"), kwargs.get("max_val"))
    return func in _RELUS or (func is functional.hardtanh and limits == (0.0, 6.0))


def _first(args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
    x: torch.Tensor = args[0] if args else kwargs["input"]
    return x
