"""What `ntksap analyze` is asked for, checked before anything is opened."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal

from ntksap_export.errors import ConfigError
from ntksap_export.ranges import read_bytes

PARTS: Final = ("ntk", "trace", "isometry", "structure")
FORMS: Final = ("sum", "classes", "full")
WAYS: Final = ("auto", "exact", "lanczos", "randomized")
Form = Literal["sum", "classes", "full"]
Way = Literal["auto", "exact", "lanczos", "randomized"]
_LEAST_IMAGES: Final = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at, and how.

    Attributes:
        images: how many, at least 2.
        real: images of the data; False: noise; None: of a run those of its data, of a model noise unless data are
            named.
        form: of the tangent kernel, as `analysis.ntk` has it.
        memory_bytes: what the peak of each part may grow by.
        only: parts, in the order of `PARTS`.
        way: of the Jacobian, as `analysis.jacobian_values` has it.
        seeds: how many initializations are drawn and averaged.
        probes: random vectors of the trace's estimate.

    Raises:
        ConfigError: one of them cannot be used; names the flag.
    """

    images: int = 64
    real: bool | None = None
    form: Form = "sum"
    memory_bytes: int = 2 << 30
    only: tuple[str, ...] = PARTS
    way: Way = "auto"
    seeds: int = 1
    probes: int = 16

    def __post_init__(self) -> None:
        if self.images < _LEAST_IMAGES:
            raise ConfigError(
                f"--images must be at least {_LEAST_IMAGES}, for kernels compare images; got {self.images}"
            )
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1; got {self.seeds}")
        if self.probes < 2:
            raise ConfigError(f"--probes must be at least 2, for an estimate has an error; got {self.probes}")
        _check_one("form", self.form, FORMS)
        _check_one("way", self.way, WAYS)
        if not self.only:
            raise ConfigError(f"--only must name at least one of {', '.join(PARTS)}")
        for part in self.only:
            _check_one("only", part, PARTS)

    def wants(self, part: str) -> bool:
        """Whether a part of `PARTS` is asked for."""
        return part in self.only


def read_memory(text: str) -> int:
    """What `--memory` says, in bytes.

    Raises:
        ConfigError: it is no size.
    """
    try:
        return read_bytes(text)
    except ValueError as error:
        raise ConfigError(f"--memory {error}") from None


def read_parts(text: str) -> tuple[str, ...]:
    """What `--only` says, in the order of `PARTS`.

    Raises:
        ConfigError: a part that there is none of.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    for part in named:
        _check_one("only", part, PARTS)
    return tuple(part for part in PARTS if part in named)


def _check_one(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f"did you mean {near[0]}? It takes" if near else "it takes"
        raise ConfigError(f"--{flag} knows no '{value}'; {hint} {', '.join(known)}")
