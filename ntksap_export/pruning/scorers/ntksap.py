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
- Gradients, never values, are in bf16 where the hardware is fast at it (ntksap_passes.py).
- A pruned weight scores exactly 0 and cannot come back; ties are not all pruned but chosen to an exact count.
- Gradients are taken by the effective weights (th * m and (th + D) * m) and contracted with th and th + D afterwards:
  the same derivative by the chain rule, without a mask in the graph and without a second model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ntksap_export.errors import ConfigError
from ntksap_export.hardware import fast_bf16
from ntksap_export.masks import Mask
from ntksap_export.models.initialization import weight_std
from ntksap_export.pruning.distributed import sum_in_order
from ntksap_export.pruning.inputs import ScoringInputs
from ntksap_export.pruning.scorers.gradients import Tensors, modes
from ntksap_export.pruning.scorers.ntksap_passes import TwoPasses

PRECISIONS = ("auto", "fp32", "bf16")
# The gradients of the two networks nearly cancel if they are nearly one: bf16 leaves too little of a smaller step.
BF16_EPSILON = 0.01


Draw = Callable[[str, torch.Generator], torch.Tensor]
Sampler = Callable[[nn.Module, tuple[int, ...]], Draw]


@dataclass(frozen=True, slots=True)
class NtkSap:
    """The scorer.

    Attributes:
        epsilon: standard deviation of the perturbation, above 0 (paper: 0.01; insensitive from 0.001 to 0.01).
        draws: fresh initializations per batch, R in the paper (CIFAR-10: 5, elsewhere 1).
        default_rounds: T in the paper's CIFAR-10 runs.
        precision: of the gradients: `fp32`, `bf16`, or `auto`: bf16 where the device multiplies it fast, if epsilon is
            at least 0.01. Logits and what leads to them are float32 in any case.
        sampler: what th is drawn from, where that is not Kaiming normal: called with the model and the shape of an
            image, it gives a function of a weight's name and a generator, whose device the draw is on.

    Raises:
        ConfigError: epsilon not above 0, draws below 1, or an unknown precision.
    """

    epsilon: float = 0.01
    draws: int = 1
    default_rounds: int = 20
    revives: bool = False
    precision: str = "auto"
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ConfigError(f"epsilon must be above 0; got {self.epsilon:g}. The paper uses 0.01")
        if self.draws < 1:
            raise ConfigError(f"draws must be at least 1; got {self.draws}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")

    def score(self, model: nn.Module, mask: Mask, inputs: ScoringInputs, round_index: int) -> Tensors:
        """Score every weight of `mask`; see `Scorer.score`."""
        parameters = dict(model.named_parameters())
        weights: Tensors = {name: parameters[name] for name in mask}
        device = next(iter(weights.values())).device
        draw = _kaiming(weights) if self.sampler is None else self.sampler(model, inputs.shape)
        gradients = torch.bfloat16 if self._takes_bf16(device) else torch.float32

        def contribution(item: tuple[int, int]) -> Tensors:
            generator = inputs.generator(device, round_index, *item)
            images = torch.randn(inputs.batch_size, *inputs.shape, generator=generator, device=device)
            return self._derivative(model, mask, draw, images, generator, gradients)

        sums = {name: _channels_last(torch.zeros(weight.shape, device=device)) for name, weight in weights.items()}
        items = list(itertools.product(range(self.draws), range(inputs.batches)))
        with modes(model):
            sum_in_order(sums, items, contribution)
        return {name: total.abs_().contiguous() for name, total in sums.items()}

    def _takes_bf16(self, device: torch.device) -> bool:
        if self.precision != "auto":
            return self.precision == "bf16"
        return self.epsilon >= BF16_EPSILON and fast_bf16(device)

    def _derivative(
        self,
        model: nn.Module,
        mask: Mask,
        draw: Draw,
        images: torch.Tensor,
        generator: torch.Generator,
        gradients: torch.dtype,
    ) -> Tensors:
        """The derivative of || f(z; th * m) - f(z; (th + D) * m) ||^2 by m, for one draw of th and D."""
        th = {name: draw(name, generator).mul_(kept) for name, kept in mask.items()}
        moved = {name: _normal(t, self.epsilon, generator).mul_(mask[name]).add_(t) for name, t in th.items()}
        here = {name: _channels_last(t).requires_grad_() for name, t in th.items()}
        there = {name: _channels_last(t).requires_grad_() for name, t in moved.items()}
        images, norms = _channels_last(images), _fresh_norms(model)
        with TwoPasses(gradients) as passes:
            logits = functional_call(model, {**norms, **here}, (images,))
            passes.repeat()
            difference = logits - functional_call(model, {**norms, **there}, (images,))
        leaves = [*here.values(), *there.values()]
        parts = torch.autograd.grad(difference.square().sum(), leaves, materialize_grads=True)
        terms = [leaf.detach().mul_(part) for leaf, part in zip(leaves, parts, strict=True)]
        return {name: g0.add_(g1) for name, g0, g1 in zip(here, terms, terms[len(here) :], strict=False)}


def _kaiming(weights: Tensors) -> Draw:
    return lambda name, generator: _normal(weights[name], weight_std(weights[name]), generator)


def _normal(like: torch.Tensor, std: float, generator: torch.Generator) -> torch.Tensor:
    # Contiguous, whatever `like` is: normal_ fills memory in its own order, and a channels-last model is no other one.
    empty = torch.empty_like(like, dtype=torch.float32, requires_grad=False, memory_format=torch.contiguous_format)
    return empty.normal_(0.0, std, generator=generator)


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, laid out as convolutions like them best."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _fresh_norms(model: nn.Module) -> Tensors:
    """Stand-ins for every BatchNorm's gamma (1) and beta (0)."""
    stand_ins: Tensors = {}
    for prefix, norm in model.named_modules():
        if isinstance(norm, _BatchNorm) and norm.affine:
            stand_ins[f"{prefix}.weight"] = torch.ones_like(norm.weight, requires_grad=False)
            stand_ins[f"{prefix}.bias"] = torch.zeros_like(norm.bias, requires_grad=False)
    return stand_ins
