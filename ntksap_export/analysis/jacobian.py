"""A network as a function of its image that can be linearized: J v and J^T u, J = d logits / d image, float64.

Everything that makes a Jacobian impossible is found here, on the first image, before any work: an image of whole
numbers, an answer that is no tensor of one row per image, that does not depend on the image, or that is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntksap_export.analysis.footprint import Footprint
from ntksap_export.analysis.settled import eval_copy
from ntksap_export.errors import ConfigError
from ntksap_export.quoting import first_line


@dataclass(frozen=True, slots=True)
class LogitMap:
    """What `logit_map` found.

    Attributes:
        model: a copy in eval mode, float64, that differentiates by nothing of its own.
        shape: of one image.
        outputs: numbers that it answers for one image: C.
        saved_bytes: what autograd keeps of one image between forward and backward, beside the weights.
        unfolded_bytes: what a convolution may hold of one image while it runs.
        model_bytes: of the copy's weights and buffers.
    """

    model: nn.Module
    shape: tuple[int, ...]
    outputs: int
    saved_bytes: int
    unfolded_bytes: int
    model_bytes: int

    @property
    def inputs(self) -> int:
        """Numbers in one image: D."""
        return torch.Size(self.shape).numel()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(n, *shape) -> (n, C)."""
        # A copy: a network that begins with an activation in place would write into its images.
        logits: torch.Tensor = self.model(images.clone()).flatten(1)
        return logits


def logit_map(model: nn.Module, images: torch.Tensor) -> LogitMap:
    """The logits of `model` as a function of its images; one of them is tried out.

    Args:
        model: left untouched.
        images: (N, C, H, W), normalized; at least one.

    Raises:
        ConfigError: no Jacobian can be formed; says why.
    """
    if not images.is_floating_point():
        raise ConfigError(
            f"a Jacobian needs images of real numbers; got {images.dtype}, by which nothing can be differentiated; "
            "give normalized float images"
        )
    if images.dim() < 2 or not len(images):
        raise ConfigError(f"a Jacobian needs one image or more, (N, C, H, W); got shape {tuple(images.shape)}")
    frozen = eval_copy(model).double().requires_grad_(False)
    values = [*frozen.parameters(), *frozen.buffers()]
    image = images[:1].to(values[0].device if values else images.device, torch.float64).requires_grad_()
    footprint = Footprint(frozen)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), footprint:
            answer = frozen(image.clone())
    except Exception as error:  # a model's own code may fail in any way
        raise ConfigError(
            f"{type(model).__name__} cannot take an image of shape {tuple(images.shape[1:])} in float64: "
            f"{first_line(error)}; try another --image-size"
        ) from error
    return LogitMap(
        frozen,
        tuple(images.shape[1:]),
        _checked(type(model).__name__, answer),
        footprint.saved_bytes,
        footprint.unfolded_bytes,
        sum(value.numel() * value.element_size() for value in values),
    )


def _checked(name: str, answer: object) -> int:
    """How many outputs an image has."""
    if not isinstance(answer, torch.Tensor):
        raise ConfigError(
            f"{name} must answer with one tensor of logits to have a Jacobian; got {type(answer).__name__}; "
            "wrap it in a module that returns the logits"
        )
    if answer.dim() < 2 or len(answer) != 1 or not answer.numel():
        raise ConfigError(
            f"{name} must answer with one row of logits per image; got shape {tuple(answer.shape)} for one image"
        )
    if not answer.requires_grad:
        raise ConfigError(
            f"the output of {name} does not depend on its image in a way that can be differentiated, so it has no "
            "Jacobian; look for detach(), no_grad(), argmax or a constant in its forward"
        )
    return _finite("logits", answer)[0].numel()


def _finite(what: str, values: torch.Tensor) -> torch.Tensor:
    if not bool(values.isfinite().all()):
        verb = "are" if what == "logits" else "is"
        raise ConfigError(
            f"the {what} of the network {verb} NaN or infinite; give images without NaN, and weights of a network that "
            "did not diverge"
        )
    return values


class Linearized:
    """J of each of some images, as two functions of float64 batches. The network itself runs once.

        J^T u    one backward pass
        J v      J^T u is linear in u, and J v its derivative by u along v: a backward pass through that pass

    Unlike forward-mode derivatives this needs nothing of a layer but that its gradient has a gradient.

    Args:
        network: the map.
        images: (n, *shape), float64, on the network's device.
    """

    def __init__(self, network: LogitMap, images: torch.Tensor) -> None:
        self.rows, self.columns = network.outputs, network.inputs
        self._network = network
        self._images = images.detach().clone().requires_grad_()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the other attentions have one derivative only
            self._logits = _finite("logits", network(self._images))
        self._pulled: tuple[torch.Tensor, torch.Tensor] | None = None  # u, and J^T u as a function of it

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """J v, image by image: (n, D) -> (n, C)."""
        if self._pulled is None:
            at = torch.zeros_like(self._logits, requires_grad=True)
            with torch.enable_grad():
                self._pulled = at, self._backward(at, create_graph=True)
        at, pulled = self._pulled
        if not pulled.requires_grad:  # J is 0 whatever u is: not even autograd finds a way
            return torch.zeros_like(at)
        (pushed,) = torch.autograd.grad(pulled, at, vectors, retain_graph=True, materialize_grads=True)
        return _finite("Jacobian", pushed)

    def adjoint(self, vectors: torch.Tensor) -> torch.Tensor:
        """J^T u, image by image: (n, C) -> (n, D)."""
        return _finite("Jacobian", self._backward(vectors))

    def _backward(self, vectors: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
        (pulled,) = torch.autograd.grad(
            self._logits, self._images, vectors, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        return pulled.flatten(1)

    def matrix(self) -> torch.Tensor:
        """J itself, a row of it for each output: (n, C, D)."""
        n = len(self._images)
        matrix = torch.empty(n, self.rows, self.columns, dtype=torch.float64, device=self._images.device)
        for row in range(self.rows):
            unit = torch.zeros_like(self._logits)
            unit[:, row] = 1
            matrix[:, row] = self.adjoint(unit)
        return matrix
