"""A network as a function of its weights: a copy to differentiate, image by image, and what that takes.

The gradient of output o for image x by the weights w that count is one row of the Jacobian J:

    J[(x, o), p] = d f_o(x) / d w_p

Rows are made in one of three ways, the first that gives what plain autograd gives for the first image (and where an
image's logits do not depend on the batch it is in):

    layer by layer   a batch with a weight for each image (per_image.py): weights of Conv2d and Linear, as most are used
    torch.func       vjp within vmap over images: anything that vmap takes
    one by one       plain autograd, image by image: anything else

All are exact: they differ by rounding only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call, vjp, vmap

from ntksap_export.analysis.columns import Piece, Tensors, flat, picked, width
from ntksap_export.analysis.footprint import Footprint
from ntksap_export.analysis.per_image import PerImage
from ntksap_export.analysis.settled import eval_copy
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask, prunable_names
from ntksap_export.quoting import first_line

Parameters = Literal["prunable", "all"]


@dataclass(frozen=True, slots=True)
class ImageCost:
    """What one image takes when its outputs are differentiated, in elements of the copy's dtype.

    Attributes:
        outputs: logits of an image.
        saved: elements that autograd keeps between the forward and the backward pass.
        unfolded: the largest convolution's input, unfolded to patches: a convolution may take that much beside.
    """

    outputs: int
    saved: int
    unfolded: int


class Differentiable:
    """A copy of a model in eval mode, in another dtype, with masked weights; the model is left untouched.

    Args:
        model: takes images (N, ...), gives logits (N, classes).
        parameters: which count: `prunable`, weights of Conv2d and Linear; `all`, biases and norms too.
        mask: weights that it prunes are zero in the copy and do not count; None: a network that is not masked.
        dtype: of the copy.

    Raises:
        CheckpointError: the mask does not fit the model.
        ConfigError: nothing counts.
    """

    def __init__(self, model: nn.Module, parameters: Parameters, mask: Mask | None, dtype: torch.dtype) -> None:
        if mask is not None:
            mask.check_fits(model)
        self._net = eval_copy(model).to(dtype).requires_grad_(False)
        if mask is not None:
            mask.apply_(self._net)
        own = dict(self._net.named_parameters())
        names = prunable_names(self._net) if parameters == "prunable" else tuple(own)
        self._weights: Tensors = {name: own[name] for name in names}
        self._kept = {name: mask[name] for name in names if mask is not None and name in mask}
        self._ways = [self._by_batch, self._by_vmap]
        self._apart = False  # whether an image's logits were found not to depend on the others of its batch
        self._seen: set[tuple[str, ...]] = set()
        self.dtype = dtype
        if not self.columns:
            raise ConfigError(
                "no weight of the network counts: does the mask keep nothing, or has it no Conv2d, Linear?"
            )

    @property
    def columns(self) -> int:
        """Weights that count: the length of a row of J."""
        return sum(self._count(name) for name in self._weights)

    @property
    def largest(self) -> int:
        """Elements of the largest parameter of which a weight counts."""
        return max(weight.numel() for weight in self._weights.values())

    @property
    def stored_bytes(self) -> int:
        """Bytes of the copy."""
        tensors = (*self._net.parameters(), *self._net.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def device(self) -> torch.device:
        """Where the copy is: where the model was."""
        return next(iter(self._weights.values())).device

    def footprint(self, shape: Sequence[int]) -> ImageCost:
        """What one image of `shape` (C, H, W) takes; found by a forward pass of one image of zeros.

        Raises:
            ConfigError: the model does not take such an image, or its outputs cannot be differentiated by its weights.
        """
        weights = {name: weight.detach().requires_grad_() for name, weight in self._weights.items()}
        with torch.enable_grad(), Footprint(self._net) as watch:
            logits = self._call(weights, torch.zeros(1, *shape, dtype=self.dtype, device=self.device))
        if not logits.requires_grad:
            raise ConfigError(
                "the outputs do not depend on the weights by a derivative; are they detached, or rounded?"
            )
        size = self.dtype.itemsize
        return ImageCost(logits.shape[1], watch.saved_bytes // size, watch.unfolded_bytes // size)

    def parts(self, columns: int) -> Iterator[tuple[Piece, ...]]:
        """All columns in order, at most `columns` in one part; a parameter may be cut."""
        part: list[Piece] = []
        room = columns
        for name, weight in self._weights.items():
            count, done = self._count(name), 0
            kept = self._kept[name].flatten().nonzero().squeeze(1).to(self.device) if name in self._kept else None
            while done < count:
                take = min(room, count - done)
                if kept is None and take == weight.numel():
                    index = None
                elif kept is None:
                    index = torch.arange(done, done + take, device=self.device)
                else:
                    index = kept[done : done + take]
                part.append(Piece(name, index))
                done, room = done + take, room - take
                if not room:
                    yield tuple(part)
                    part, room = [], columns
        if part:
            yield tuple(part)

    def rows(self, images: torch.Tensor, outputs: torch.Tensor, part: tuple[Piece, ...]) -> torch.Tensor:
        """Rows of J for weighted sums of the outputs, (sums, N, columns of the part).

        Args:
            images: (N, C, H, W), on the copy's device and of its dtype.
            outputs: (sums, classes): each row weighs the logits; a row of ones is their sum.
            part: of `parts`.

        Raises:
            ConfigError: the network cannot be differentiated.
        """
        while self._ways:
            try:
                rows = self._ways[0](images, outputs, part)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # control flow by values, an operator without a batching rule, a layer of another form
                rows = None
            if rows is not None and self._agrees(rows[:, 0], images[0], outputs, part):
                return rows
            del self._ways[0]
        return torch.stack([self._one_by_one(image, outputs, part) for image in images], dim=1)

    def _agrees(self, rows: torch.Tensor, image: torch.Tensor, outputs: torch.Tensor, part: tuple[Piece, ...]) -> bool:
        """Whether rows of the first image are those of plain autograd; looked at once for each part."""
        names = tuple(piece.name for piece in part)
        if names in self._seen:
            return True
        expected = self._one_by_one(image, outputs[:1], part)
        if not self._near(rows[:1], expected):
            return False
        self._seen.add(names)
        return True

    def _near(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        """Whether nothing but rounding lies between two results."""
        rtol = 1e3 * torch.finfo(self.dtype).eps ** 0.75
        return torch.allclose(a, b, rtol=rtol, atol=rtol * float(b.abs().max()), equal_nan=True)

    def pull(self, images: torch.Tensor, probe: torch.Tensor) -> Tensors:
        """J^T v of a batch: the gradient of sum(probe * logits) by each parameter, zero where a weight does not count.

        Args:
            images: as of `rows`.
            probe: (N, classes).
        """
        weights = {name: weight.detach().requires_grad_() for name, weight in self._weights.items()}
        with torch.enable_grad():
            total = (self._call(weights, images) * probe).sum()
        gradients = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
        named = dict(zip(weights, gradients, strict=True))
        return {name: g * self._kept[name].to(g.device) if name in self._kept else g for name, g in named.items()}

    def _by_batch(self, images: torch.Tensor, outputs: torch.Tensor, part: tuple[Piece, ...]) -> torch.Tensor | None:
        weights = {piece.name: self._weights[piece.name] for piece in part}
        leaves = {n: w.expand(len(images), *w.shape).requires_grad_() for n, w in weights.items()}
        with torch.enable_grad(), PerImage({id(weights[name]): leaf for name, leaf in leaves.items()}):
            logits = self._net(images)
        if not self._apart:
            with torch.no_grad():
                alone = torch.cat([self._net(image[None]) for image in images])
            self._apart = logits.shape == alone.shape and self._near(logits.detach(), alone)
        if not self._apart or not logits.requires_grad:
            return None
        rows = []
        for weighing in outputs:
            above = weighing.expand_as(logits)
            made = torch.autograd.grad(logits, list(leaves.values()), above, retain_graph=True, materialize_grads=True)
            rows.append(picked({n: g.flatten(1) for n, g in zip(leaves, made, strict=True)}, part))
        return torch.stack(rows)

    def _by_vmap(self, images: torch.Tensor, outputs: torch.Tensor, part: tuple[Piece, ...]) -> torch.Tensor:
        weights = {piece.name: self._weights[piece.name] for piece in part}

        def one(image: torch.Tensor) -> torch.Tensor:
            pull = vjp(lambda weights: self._logits(weights, image[None])[0], weights)[1]
            return torch.stack([picked(flat(pull(weighing)[0]), part) for weighing in outputs])

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            rows: torch.Tensor = vmap(one, out_dims=1)(images)
        return rows

    def _one_by_one(self, image: torch.Tensor, outputs: torch.Tensor, part: tuple[Piece, ...]) -> torch.Tensor:
        weights = {piece.name: self._weights[piece.name].detach().requires_grad_() for piece in part}
        with torch.enable_grad():
            logits = self._call(weights, image[None])[0]
        if not logits.requires_grad:
            return outputs.new_zeros(len(outputs), sum(width(piece, self._weights) for piece in part))
        rows = []
        for weighing in outputs:
            gradients = torch.autograd.grad(
                logits, list(weights.values()), weighing, retain_graph=True, materialize_grads=True
            )
            rows.append(picked(flat(dict(zip(weights, gradients, strict=True))), part))
        return torch.stack(rows)

    def _call(self, weights: Tensors, images: torch.Tensor) -> torch.Tensor:
        try:
            logits = self._logits(weights, images)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"the model cannot take {images.dtype} images of shape {tuple(images.shape[1:])}: {first_line(error)}"
            ) from error
        if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or not logits.is_floating_point():
            got = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ConfigError(f"the model must give logits (N, classes) to be differentiated; got {got}")
        return logits

    def _logits(self, weights: Tensors, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self._net, weights, (images,))
        return logits

    def _count(self, name: str) -> int:
        return int(self._kept[name].sum()) if name in self._kept else self._weights[name].numel()
