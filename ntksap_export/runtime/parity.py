"""Do two sessions agree?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ntksap_export.runtime.session import Images, Logits, Session

_LARGEST = float(np.finfo(np.float32).max)  # stands for NaN and infinity: stays a number in JSON


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """One comparison over one batch.

    Attributes:
        max_abs: largest absolute difference of any logit.
        max_rel: the same, divided by `logit_scale`.
        logit_scale: largest absolute logit of the reference.
        vacuous: the reference answers every image alike (a collapsed network), so that agreement proves little.
        passed: every difference is finite and <= atol + rtol * logit_scale.
    """

    batch: int
    runtime: str
    optimization: str
    max_abs: float
    max_rel: float
    logit_scale: float
    atol: float
    rtol: float
    vacuous: bool
    passed: bool


@dataclass(frozen=True, slots=True)
class Parity:
    """All comparisons of one graph. `top1_agreement` is the share of images with the same first answer."""

    checks: tuple[ParityCheck, ...]
    top1_agreement: float

    @property
    def passed(self) -> bool:
        """Whether each comparison passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def vacuous(self) -> bool:
        """Whether no comparison proved much."""
        return all(check.vacuous for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As stored in parity.json."""
        return {
            "schema": 1,
            "passed": self.passed,
            "vacuous": self.vacuous,
            "top1_agreement": self.top1_agreement,
            "checks": [asdict(check) for check in self.checks],
        }


def check_parity(
    reference: Session, sessions: Iterable[Session], batches: Iterable[Images], *, atol: float, rtol: float
) -> Parity:
    """Run every batch through the reference and each session.

    Args:
        reference: what is right.
        sessions: what is compared.
        batches: images (N, C, H, W), normalized; real ones tell more than noise.
        atol: absolute tolerance of a logit.
        rtol: tolerance as a share of the largest absolute logit of the batch.
    """
    checks = []
    same = seen = 0
    tested = list(sessions)
    for images in batches:
        expected = reference.run(images)
        finite = bool(np.isfinite(expected).all())
        scale = float(np.abs(expected).max()) if finite else _LARGEST
        alike = expected if len(expected) == 1 else expected - expected[:1]
        vacuous = finite and bool(alike.max() == alike.min())
        for session in tested:
            actual = session.run(images)
            worst = _worst(actual, expected)
            checks.append(
                ParityCheck(
                    batch=len(images),
                    runtime=str(session.options["backend"]),
                    optimization=str(session.options.get("graph_optimization", "none")),
                    max_abs=worst,
                    max_rel=worst / scale if scale else worst,
                    logit_scale=scale,
                    atol=atol,
                    rtol=rtol,
                    vacuous=vacuous,
                    passed=finite and worst <= atol + rtol * scale,
                )
            )
            if actual.shape == expected.shape:
                same += int((actual.argmax(1) == expected.argmax(1)).sum())
            seen += len(images)
    return Parity(tuple(checks), same / seen if seen else 0.0)


def _worst(actual: Logits, expected: Logits) -> float:
    """Largest absolute difference; the largest float32 where there is none, or it is not finite."""
    if actual.shape != expected.shape:
        return _LARGEST
    with np.errstate(invalid="ignore", over="ignore"):
        worst = float(np.abs(actual - expected).max())
    return worst if np.isfinite(worst) else _LARGEST
