"""Each layer's own isometry: the singular values of the linear map that it is, at the size of its real input.

    Linear   its weight, (out, in)
    Conv2d   the matrix (out * H' * W', in * H * W) that it applies to an image, zero padding and stride included;
             not the weight flattened, whose singular values are others

The mean and the standard deviation are over all singular values. Where the matrix is too large for an SVD they are
estimated (Lanczos quadrature from a few random vectors; relative error some 1 / sqrt(probes * smaller side)); the
largest value then is good to a few digits, the smallest an upper and the condition a lower bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ntksap_export.analysis.krylov import lanczos
from ntksap_export.analysis.memory import amount
from ntksap_export.analysis.settled import eval_copy
from ntksap_export.errors import ConfigError
from ntksap_export.progress import Progress, Silent
from ntksap_export.quoting import first_line

_SVD_WORK = 2**28  # larger * smaller^2 sides of the matrix; some tenths of a second
_PROBES = 4
_SEEN = 2**14  # the larger the matrix, the closer one random vector comes to the mean: probes * smaller side
_STEPS = 32


@dataclass(frozen=True, slots=True)
class LayerIsometry:
    """One layer.

    Attributes:
        name: of the weight.
        mean: of all singular values.
        std: their standard deviation.
        min: the smallest; 0 where the map has a null space on its smaller side.
        max: the largest.
        condition: max / min; infinite where min is 0.
        rank: how many singular values there are: the smaller side of the matrix.
        exact: whether all were computed; else they are estimates, see above.
    """

    name: str
    mean: float
    std: float
    min: float
    max: float
    condition: float
    rank: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for an infinite condition."""
        return {
            "name": self.name,
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "condition": self.condition if math.isfinite(self.condition) else None,
            "rank": self.rank,
            "exact": self.exact,
        }


def layer_isometry(
    model: nn.Module,
    images: torch.Tensor,
    *,
    seed: int = 0,
    memory_bytes: int = 2 << 30,
    progress: Progress | None = None,
) -> tuple[LayerIsometry, ...]:
    """Look at every Conv2d and Linear that runs, in the order in which they do; weights as they are.

    Args:
        model: left untouched. A layer that runs twice is taken at its first input.
        images: (N, C, H, W); the first says how large each layer's input is.
        seed: of the random vectors.
        memory_bytes: what a matrix and its SVD may take; larger ones are estimated.
        progress: where a bar is shown.

    Raises:
        ConfigError: the model cannot take the image; a weight is NaN or infinite; not even the vectors of an estimate
            fit in `memory_bytes`.
    """
    found = []
    inputs = _inputs(model, images)
    with (progress or Silent()).task("layers' Jacobians", len(inputs)) as task:
        for name, layer, shape in inputs:
            if not bool(layer.weight.isfinite().all()):
                raise ConfigError(f"'{name}' is NaN or infinite; give weights of a network that did not diverge")
            found.append(_layer(name, layer, shape, seed, memory_bytes))
            task.advance()
    return tuple(found)


def _inputs(model: nn.Module, images: torch.Tensor) -> list[tuple[str, nn.Conv2d | nn.Linear, tuple[int, ...]]]:
    """Name of the weight, layer, (C, H, W) or (features,) of its input; of a float64 copy, in the order they run."""
    copied = eval_copy(model).double().requires_grad_(False)
    found: dict[str, tuple[nn.Conv2d | nn.Linear, tuple[int, ...]]] = {}
    names = {id(parameter): name for name, parameter in copied.named_parameters()}

    def note(layer: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        name = names.get(id(layer.weight))
        if name is not None and given:
            shape = given[0].shape[-1:] if isinstance(layer, nn.Linear) else given[0].shape[-3:]
            found.setdefault(name, (layer, tuple(shape)))

    for module in copied.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            copied(images[:1].to(next(copied.parameters(), images).device, torch.float64))
    except Exception as error:  # a model's own code may fail in any way
        raise ConfigError(
            f"{type(model).__name__} cannot take an image of shape {tuple(images.shape[1:])}: {first_line(error)}; "
            "try another --image-size"
        ) from error
    return [(name, layer, shape) for name, (layer, shape) in found.items()]


class ConvolutionMap:
    """The linear map of a Conv2d without its bias; a batch of copies of it, for vectors side by side.

    Args:
        layer: float64; its own padding, stride, dilation, groups and padding mode.
        shape: (C, H, W) of its input.
    """

    def __init__(self, layer: nn.Conv2d, shape: tuple[int, ...]) -> None:
        self._layer, self._shape = layer, shape
        self.device = layer.weight.device
        image = torch.zeros(1, *shape, dtype=torch.float64, device=self.device)
        self.columns = image.numel()
        self.rows = self._run(image).numel()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """A v: (n, columns) -> (n, rows)."""
        return self._run(vectors.view(-1, *self._shape)).flatten(1)

    def adjoint(self, vectors: torch.Tensor) -> torch.Tensor:
        """A^T u: (n, rows) -> (n, columns)."""
        image = torch.zeros(len(vectors), *self._shape, dtype=torch.float64, device=vectors.device, requires_grad=True)
        with torch.enable_grad():
            answer = self._run(image).flatten(1)
        (pulled,) = torch.autograd.grad(answer, image, vectors)
        return pulled.flatten(1)

    def matrix(self) -> torch.Tensor:
        """A itself, column by column: (rows, columns)."""
        answers = self.forward(torch.eye(self.columns, dtype=torch.float64, device=self.device))
        return answers.T

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self._layer._conv_forward(images, self._layer.weight, None)
        return answers


class MatrixMap:
    """A matrix as a map of a batch of vectors side by side."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix, self.device = matrix, matrix.device
        self.rows, self.columns = matrix.shape

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """A v: (n, columns) -> (n, rows)."""
        return torch.matmul(vectors, self._matrix.T)

    def adjoint(self, vectors: torch.Tensor) -> torch.Tensor:
        """A^T u: (n, rows) -> (n, columns)."""
        return vectors @ self._matrix

    def matrix(self) -> torch.Tensor:
        """A itself."""
        return self._matrix


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Singular values, the share of all that each stands for (they sum to 1), and whether they are all there are."""

    values: torch.Tensor
    weights: torch.Tensor
    exact: bool


def _layer(
    name: str, layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...], seed: int, memory_bytes: int
) -> LayerIsometry:
    matrix: ConvolutionMap | MatrixMap = MatrixMap(layer.weight.flatten(1))
    repeated = 1  # how often each singular value is there
    rank = min(matrix.rows, matrix.columns)
    if isinstance(layer, nn.Conv2d):
        whole = ConvolutionMap(layer, shape)
        rank = min(whole.rows, whole.columns)
        if _is_pointwise(
            layer
        ):  # one and the same matrix at every position; a stride leaves out some, which adds zeros
            repeated = whole.rows // len(layer.weight)
        else:
            matrix = whole
    found = _spectrum(name, matrix, repeated / rank, seed, memory_bytes)
    mean = float((found.weights * found.values).sum())
    largest, smallest = float(found.values.max()), float(found.values.min())
    if smallest <= largest * max(matrix.rows, matrix.columns) * torch.finfo(torch.float64).eps:
        smallest = 0.0  # what rounding leaves of one that is 0
    return LayerIsometry(
        name=name,
        mean=mean,
        std=math.sqrt(float((found.weights * (found.values - mean).square()).sum())),
        min=smallest,
        max=largest,
        condition=largest / smallest if smallest else math.inf,
        rank=rank,
        exact=found.exact,
    )


def _spectrum(name: str, matrix: ConvolutionMap | MatrixMap, share: float, seed: int, memory_bytes: int) -> _Spectrum:
    """Of a matrix each of whose singular values is the `share` of all; what these leave are zeros."""
    small, large = sorted((matrix.rows, matrix.columns))
    # The matrix, the SVD's copy, and the unit vectors that a convolution is asked for.
    if large * small**2 <= _SVD_WORK and 8 * (2 * large * small + matrix.columns**2) <= memory_bytes:
        values = torch.linalg.svdvals(matrix.matrix())
        return _padded(values, torch.full_like(values, share), share * small, True)
    probes = min(max(_SEEN // small, 1), _PROBES)
    step_bytes = 8 * probes * (small + large)
    steps = min(_STEPS, small, memory_bytes // step_bytes - 8)  # beside the two bases, what a product takes
    if steps < 2:
        raise ConfigError(
            f"'{name}' as a matrix, {matrix.rows} x {matrix.columns}, needs {amount(10 * step_bytes)} to be "
            f"looked at; --memory allows {amount(memory_bytes)}. Raise it"
        )
    generator = torch.Generator(matrix.device).manual_seed(seed)
    values, weights = lanczos(matrix, probes, steps, generator, matrix.device)
    return _padded(values.flatten(), weights.flatten() * (share * small / probes), share * small, False)


def _padded(values: torch.Tensor, weights: torch.Tensor, total: float, exact: bool) -> _Spectrum:
    """With one more value, 0, that stands for what the weights, `total` together, leave of 1."""
    if total > 1 - 1e-9:
        return _Spectrum(values, weights, exact)
    rest = values.new_tensor([0.0, 1 - total])
    return _Spectrum(torch.cat([values, rest[:1]]), torch.cat([weights, rest[1:]]), exact)


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return (layer.kernel_size, layer.padding, layer.groups) == ((1, 1), (0, 0), 1)
