"""NTK-SAP: keep the weights that move the spectrum of the neural tangent kernel most (Wang, Li & Sun, ICLR 2023).

    score_j = | d/dm_j  sum_i || f(z_i; th_i * m) - f(z_i; (th_i + D_i) * m) ||^2 |       (paper, equation 10)

    th_i ~ the initialization, D_i ~ N(0, epsilon^2), z_i ~ N(0, 1); the absolute value is taken after the sum.

Reads no image and no label, only the shape of the input. Each mini-batch has a fresh th, D and z. BatchNorm is not in
the paper's equations; as in its code, both networks use the statistics of the unperturbed masked one on the same
batch, held constant. Biases are left at what the model has, norms stand at gamma 1 and beta 0.

Where it differs from the reference code:
- epsilon is a standard deviation, 0.01; the paper prints the variance, 1e-4. The same thing.
- The statistics come from the pass that is differentiated, not from a pass of their own: a layer's input is normalized
  with the same (unbiased) variance on the way to the next layer's statistics as in the result, where the reference
  uses the biased one there. They differ by a factor n / (n - 1) in the number n of values per channel.
- A pruned weight scores exactly 0 and cannot come back; ties are not all pruned but chosen to an exact count.
- Gradients are taken by the effective weights (th * m and (th + D) * m) and contracted with th and th + D afterwards:
  the same derivative by the chain rule, without a mask in the graph and without a second model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.models.initialization import weight_std
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, modes


@dataclass(frozen=True, slots=True)
class NtkSap:
    """The scorer.

    Attributes:
        epsilon: standard deviation of the perturbation, above 0 (paper: 0.01; insensitive from 0.001 to 0.01).
        draws: fresh initializations per batch, R in the paper (CIFAR-10: 5, elsewhere 1).
        default_rounds: T in the paper's CIFAR-10 runs.

    Raises:
        ConfigError: epsilon not above 0, or draws below 1.
    """

    epsilon: float = 0.01
    draws: int = 1
    default_rounds: int = 20
    revives: bool = False

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ConfigError(f"epsilon must be above 0; got {self.epsilon:g}. The paper uses 0.01")
        if self.draws < 1:
            raise ConfigError(f"draws must be at least 1; got {self.draws}")

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:
        """Score every weight of `mask`; see `Scorer.score`."""
        parameters = dict(model.named_parameters())
        weights: Tensors = {name: parameters[name] for name in mask}
        sums = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
        device = next(iter(weights.values())).device
        with modes(model):
            for draw in range(self.draws):
                for batch in range(inputs.batches):
                    generator = inputs.generator(device, round_index, draw, batch)
                    self._add_batch(sums, model, mask, weights, inputs, generator)
        return {name: (total * mask[name]).abs_() for name, total in sums.items()}

    def _add_batch(
        self,
        sums: Tensors,
        model: nn.Module,
        mask: Mask,
        weights: Tensors,
        inputs: ScoringInputs,
        generator: torch.Generator,
    ) -> None:
        device = generator.device
        images = torch.randn(inputs.batch_size, *inputs.shape, generator=generator, device=device)
        fresh = {name: _normal(weight, weight_std(weight), generator) for name, weight in weights.items()}
        moved = {name: th + _normal(th, self.epsilon, generator) for name, th in fresh.items()}
        here = {name: (th * mask[name]).requires_grad_() for name, th in fresh.items()}
        there = {name: (th * mask[name]).requires_grad_() for name, th in moved.items()}
        norms = _fresh_norms(model)
        with _shared_statistics(model) as use_remembered:
            unperturbed = functional_call(model, {**norms, **here}, (images,))
            use_remembered()
            perturbed = functional_call(model, {**norms, **there}, (images,))
        difference = (unperturbed - perturbed).square().sum()
        gradients = torch.autograd.grad(difference, [*here.values(), *there.values()], materialize_grads=True)
        for name, g_here, g_there in zip(sums, gradients, gradients[len(sums) :], strict=False):
            sums[name].addcmul_(g_here, fresh[name]).addcmul_(g_there, moved[name])


def _normal(like: torch.Tensor, std: float, generator: torch.Generator) -> torch.Tensor:
    # Contiguous, whatever `like` is: normal_ fills memory in its own order, and a channels-last model is no other one.
    empty = torch.empty_like(like, dtype=torch.float32, requires_grad=False, memory_format=torch.contiguous_format)
    return empty.normal_(0.0, std, generator=generator)


def _batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield prefix, module


def _fresh_norms(model: nn.Module) -> Tensors:
    """Stand-ins for every BatchNorm's gamma (1), beta (0) and running statistics."""
    stand_ins: Tensors = {}
    for prefix, norm in _batch_norms(model):
        if norm.affine:
            stand_ins[f"{prefix}.weight"] = torch.ones_like(norm.weight, requires_grad=False)
            stand_ins[f"{prefix}.bias"] = torch.zeros_like(norm.bias, requires_grad=False)
        if norm.running_mean is not None and norm.running_var is not None:
            stand_ins[f"{prefix}.running_mean"] = torch.zeros_like(norm.running_mean)
            stand_ins[f"{prefix}.running_var"] = torch.ones_like(norm.running_var)
    return stand_ins


@contextlib.contextmanager
def _shared_statistics(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Within it, each BatchNorm (in eval mode) measures its input's statistics, sets them and remembers them.

    Yields:
        A switch: after it is called, each BatchNorm sets what it remembered, call by call, and measures no more.
    """
    remembered: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    measuring = True

    def switch() -> None:
        nonlocal measuring
        measuring = False

    def prepare(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        (x,) = arguments
        past = remembered.setdefault(module, [])
        if measuring:
            axes = [axis for axis in range(x.dim()) if axis != 1]
            var, mean = torch.var_mean(x.detach(), dim=axes, correction=1)
            past.append((mean, var))
            module.running_mean, module.running_var = mean, var
        else:
            module.running_mean, module.running_var = past.pop(0)

    handles = [
        norm.register_forward_pre_hook(prepare) for _, norm in _batch_norms(model) if norm.running_mean is not None
    ]
    try:
        yield switch
    finally:
        for handle in handles:
            handle.remove()
