"""Singular values of matrices that are known only by what they do to vectors; a batch of them at once.

    lanczos      Golub & Kahan (1965):  A^T U_k = V_k L_k^T  with U, V orthonormal and L lower bidiagonal. The
                 singular values of L are those of A when k is its smaller side; before, they are the nodes of a Gauss
                 quadrature over A's spectrum, and the squared first entries of L's left singular vectors its weights
                 (Golub & Meurant 1994): the ends converge first, and sums over nodes with weights estimate means over
                 all singular values.
    randomized   Halko, Martinsson & Tropp (2011), algorithms 4.4 and 5.1: an orthonormal basis Q of the range of
                 (A A^T)^q A Omega, then the singular values of Q^T A.

Both orthogonalize fully, twice, in float64. A vector that becomes zero (a matrix of lower rank) is replaced by a random
one orthogonal to the others, its coefficient by 0: the recurrence goes on in what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

OVERSAMPLE = 10  # of `randomized`
_POWERS = 2
_NOTHING = 1e-13  # of the largest coefficient so far; what rounding leaves of a zero vector is below it


class LinearMap(Protocol):
    """A batch of n matrices of `rows` times `columns`; vectors are float64."""

    @property
    def rows(self) -> int:
        """Of each matrix."""

    @property
    def columns(self) -> int:
        """Of each matrix."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """A v: (n, columns) -> (n, rows)."""

    def adjoint(self, vectors: torch.Tensor) -> torch.Tensor:
        """A^T u: (n, rows) -> (n, columns)."""


@dataclass(frozen=True, slots=True)
class Transposed:
    """A^T as a map."""

    of: LinearMap

    @property
    def rows(self) -> int:
        return self.of.columns

    @property
    def columns(self) -> int:
        return self.of.rows

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.of.adjoint(vectors)

    def adjoint(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.of.forward(vectors)


def lanczos(
    matrix: LinearMap, batch: int, steps: int, generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of the quadrature after `steps` steps; both (batch, steps), nodes descending, weights sum to 1.

    Args:
        matrix: its smaller side has at least `steps` dimensions; with as many, the nodes are all its singular values.
        batch: how many matrices it stands for.
        steps: products with A and with A^T.
        generator: of the starting vectors, on `device`.
        device: of the vectors.
    """
    if matrix.columns < matrix.rows:
        matrix = Transposed(matrix)
    small = _Basis(batch, steps, matrix.rows, generator, device)  # U
    large = _Basis(batch, steps, matrix.columns, generator, device)  # V
    lower = torch.zeros(batch, steps, steps, dtype=torch.float64, device=device)
    small.start()
    scale = torch.zeros(batch, dtype=torch.float64, device=device)
    for step in range(steps):
        pulled = matrix.adjoint(small[step])
        lower[:, step, step], scale = large.add(pulled, scale)
        if step + 1 < steps:
            lower[:, step + 1, step], scale = small.add(matrix.forward(large[step]), scale)
    left, nodes, _ = torch.linalg.svd(lower)
    return nodes, left[:, 0, :].square()


def randomized(
    matrix: LinearMap, batch: int, count: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """The `count` largest singular values, descending: (batch, count).

    Args:
        matrix: its smaller side has at least `count` dimensions.
        batch: how many matrices it stands for.
        count: how many values.
        generator: of the random vectors, on `device`.
        device: of the vectors.
    """
    if matrix.columns < matrix.rows:
        matrix = Transposed(matrix)
    width = min(count + OVERSAMPLE, matrix.rows)
    probes = torch.randn(width, batch, matrix.columns, generator=generator, dtype=torch.float64, device=device)
    basis = _orthonormal(torch.stack([matrix.forward(probe) for probe in probes], 2))  # (batch, rows, width)
    for _ in range(_POWERS if width < matrix.rows else 0):  # a basis of everything cannot be improved
        pulled = _orthonormal(torch.stack([matrix.adjoint(basis[:, :, i]) for i in range(width)], 2))
        basis = _orthonormal(torch.stack([matrix.forward(pulled[:, :, i]) for i in range(width)], 2))
    rows = torch.stack([matrix.adjoint(basis[:, :, i]) for i in range(width)], 1)  # (batch, width, columns)
    values: torch.Tensor = torch.linalg.svdvals(rows)
    return values[:, :count]


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    orthonormal: torch.Tensor = torch.linalg.qr(columns).Q
    return orthonormal


class _Basis:
    """Orthonormal vectors, one more at each step: (batch, steps, size)."""

    def __init__(self, batch: int, steps: int, size: int, generator: torch.Generator, device: torch.device) -> None:
        self._vectors = torch.zeros(batch, steps, size, dtype=torch.float64, device=device)
        self._count = 0
        self._generator = generator

    def __getitem__(self, step: int) -> torch.Tensor:
        return self._vectors[:, step]

    def start(self) -> None:
        """Put a random vector first."""
        self._append(self._random())

    def add(self, vector: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put what `vector` has beside the others next.

        Args:
            vector: (batch, size).
            scale: (batch,), the largest length that any vector added to either basis had.

        Returns:
            Its length, 0 where nothing was left, and the new scale; both (batch,).
        """
        scale = torch.maximum(scale, vector.norm(dim=1))
        rest = self._beside(vector)
        length = rest.norm(dim=1)
        nothing = length <= _NOTHING * scale
        if bool(nothing.any()):
            rest = torch.where(nothing[:, None], self._beside(self._random()), rest)
        self._append(rest)
        return length.masked_fill(nothing, 0.0), scale

    def _append(self, vector: torch.Tensor) -> None:
        self._vectors[:, self._count] = vector / vector.norm(dim=1, keepdim=True)
        self._count += 1

    def _beside(self, vector: torch.Tensor) -> torch.Tensor:
        others = self._vectors[:, : self._count]
        for _ in range(2):  # once is not enough: Parlett's "twice is enough"
            vector = vector - torch.einsum("bks,bk->bs", others, torch.einsum("bks,bs->bk", others, vector))
        return vector

    def _random(self) -> torch.Tensor:
        batch, _, size = self._vectors.shape
        return torch.randn(batch, size, generator=self._generator, dtype=torch.float64, device=self._vectors.device)
