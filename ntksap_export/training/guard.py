"""When a training must stop or save itself: NaN, divergence, a signal, the clock. All processes decide alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ntksap_export.training.parallel import agree

_CHECK_EVERY = {"cpu": 1, "cuda": 25}  # steps; reading a number from a GPU stalls it
_TREND = 0.1  # weight of a new loss in the running mean
_FEW_STEPS = 50  # a run may begin badly; the first loss has left the running mean by then


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard found after a step. `reason` says what is wrong with the loss, if something is."""

    reason: str = ""
    bad_step: int = 0
    stop: bool = False
    save: bool = False


@dataclass(slots=True, eq=False)
class Guard:
    """Watches the losses of one training.

    A loss has diverged when its running mean over some ten steps is above ten times ln(classes), the loss of an
    answer that says nothing, and above 50.

    Args:
        classes: number of classes.
        device: where losses are.
        stop: whether somebody asked the training to end.
        minutes: between two saves within an epoch.
    """

    classes: int
    device: torch.device
    stop: Callable[[], bool]
    minutes: float
    _saved_at: float = field(default_factory=time.monotonic)
    _seen: int = 0
    _trend: torch.Tensor | None = None
    _first_bad: torch.Tensor | None = None  # number of the first step whose loss is no number; -1 is none

    def look(self, loss: torch.Tensor, step: int, last: bool) -> Verdict:
        """Judge step `step` (from 1) by its mean loss; where looking is dear, only every so many steps.

        Args:
            loss: scalar, on the device.
            step: of the epoch.
            last: of the epoch, which is always looked at.
        """
        self._note(loss.detach(), step)
        if step % _CHECK_EVERY.get(self.device.type, 1) and not last:
            return Verdict()
        assert self._trend is not None
        assert self._first_bad is not None
        bad, trend = int(self._first_bad), float(self._trend)
        limit = max(50.0, 10.0 * math.log(self.classes))
        diverged = self._seen >= _FEW_STEPS and trend > limit
        nan, diverged, stop, save = agree((bad >= 0, diverged, self.stop(), self._due()), self.device)
        if nan:
            return Verdict("the loss is NaN or infinite", bad if bad >= 0 else step)
        if diverged:
            return Verdict(f"the loss diverged: {trend:.3g} on average, above {limit:.3g},", step)
        return Verdict(stop=stop, save=save)

    def saved(self) -> None:
        """A state was written; the clock begins anew."""
        self._saved_at = time.monotonic()

    def _due(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.minutes

    def _note(self, loss: torch.Tensor, step: int) -> None:
        self._seen += 1
        if self._trend is None or self._first_bad is None:
            self._trend = loss.float().clone()
            self._first_bad = torch.full((), -1, device=loss.device)
        self._trend.lerp_(loss.float(), _TREND)
        self._first_bad.copy_(torch.where((self._first_bad < 0) & ~loss.isfinite(), step, self._first_bad))
