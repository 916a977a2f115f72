"""Do two sessions agree?

    worst = max |actual - expected| <= atol + rtol * max |expected|          for each batch and output

A difference is judged by the scale of the logits, which is 1300 in some untrained networks, and 0 in collapsed ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntksap_export.errors import ExportError
from ntksap_export.runtime.divergence import Divergence
from ntksap_export.runtime.session import Images, Outputs, Session

BATCHES = (1, 2, 7)
_LARGEST = float(np.finfo(np.float32).max)  # stands for NaN and infinity: stays a number in JSON


@dataclass(frozen=True, slots=True)
class Limits:
    """How far apart two sessions may be; all hold at once.

    Attributes:
        atol: absolute tolerance of a value.
        rtol: tolerance as a share of the largest absolute value of the batch.
        min_top1: least share of all images with the same first answer; 0 asks for none.
        max_rms: largest root mean square of the difference, as a share of the reference's; None asks for none.
    """

    atol: float = 1e-5
    rtol: float = 1e-4
    min_top1: float = 0.0
    max_rms: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Images to compare on. `source` says what they are: `real`, `noise`, `enlarged`."""

    images: Images
    source: str = "images"


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """One comparison of one output over one batch.

    Attributes:
        batch: number of images.
        images: what they were, see `Probe`.
        runtime: backend of the session that was compared.
        optimization: of its graph: `all`, `off`, or `none` where there is no such choice.
        output: name of the output.
        max_abs: largest absolute difference of any value.
        max_rel: the same, divided by `logit_scale`.
        rms_rel: root mean square of the difference, divided by the reference's.
        logit_scale: largest absolute value of the reference.
        top1_agreement: share of images with the same first answer; None where the output is no (N, classes).
        vacuous: one constant answer to all images would have passed, so that agreement proves little.
        passed: every difference is finite and within the limits.
        reason: why there is no difference to speak of: the session failed, or answered in another shape; else None.
    """

    batch: int
    images: str
    runtime: str
    optimization: str
    output: str
    max_abs: float
    max_rel: float
    rms_rel: float
    logit_scale: float
    top1_agreement: float | None
    atol: float
    rtol: float
    max_rms: float | None
    vacuous: bool
    passed: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """All comparisons of one graph.

    Attributes:
        checks: one per batch, session and output.
        top1_agreement: share of images with the same first answer, over all checks of the logits; None where these are
            no (N, classes).
        min_top1: the least it must be.
        divergence: where the first failure begins, if somebody looked.
    """

    checks: tuple[ParityCheck, ...]
    top1_agreement: float | None
    min_top1: float = 0.0
    divergence: Divergence | None = None

    @property
    def passed(self) -> bool:
        """Whether each comparison passed, there was one, and enough first answers are the same."""
        same = self.top1_agreement is None or self.top1_agreement >= self.min_top1
        return bool(self.checks) and all(check.passed for check in self.checks) and same

    @property
    def vacuous(self) -> bool:
        """Whether no comparison proved much."""
        return all(check.vacuous for check in self.checks)

    @property
    def worst(self) -> ParityCheck:
        """The check to show: of those that failed, else of all, the one with the largest relative difference."""
        failed = [check for check in self.checks if not check.passed]
        return max(failed or self.checks, key=lambda check: check.max_rel)

    def complaint(self) -> str:
        """Why it did not pass, in one line."""
        if not self.checks:
            return "nothing was compared with the model"
        worst = self.worst
        where = f"'{worst.output}' at batch {worst.batch} of {worst.images} images, optimization {worst.optimization}"
        if worst.reason is not None:
            return f"the graph disagrees with the model in {where}: {worst.reason}{self._place()}"
        if all(check.passed for check in self.checks):
            return f"{self.top1_agreement:.1%} of the first answers are the model's; {self.min_top1:.1%} are asked for"
        if worst.max_abs > worst.atol + worst.rtol * worst.logit_scale:
            apart = f"{worst.max_abs:.3g} in {where}, where {worst.atol:g} + {worst.rtol:g} x {worst.logit_scale:.3g}"
        else:
            apart = f"root mean square {worst.rms_rel:.3g} of the answer's in {where}, where {worst.max_rms:g}"
        return f"the graph disagrees with the model: {apart} is allowed{self._place()}"

    def _place(self) -> str:
        return "" if self.divergence is None else f"; {self.divergence.sentence()}"

    def to_json(self) -> dict[str, Any]:
        """As stored in parity.json."""
        return {
            "schema": 2,
            "passed": self.passed,
            "vacuous": self.vacuous,
            "top1_agreement": self.top1_agreement,
            "min_top1": self.min_top1,
            "checks": [asdict(check) for check in self.checks],
            "divergence": None if self.divergence is None else asdict(self.divergence),
        }


def make_probes(
    images: Images, batches: Sequence[int] = BATCHES, seed: int = 0, open_axes: Sequence[int] = ()
) -> tuple[Probe, ...]:
    """Each batch of real images, and of noise of the same shape and type; and where sizes are open, another size.

    Args:
        images: (N, ...), at least one; where N is less than a batch, they are repeated.
        batches: sizes.
        seed: of the noise: standard normal, or of whole numbers from 0 to 255 for an integer type.
        open_axes: of `images`, whose size the graph leaves open: two real images get every pixel twice along each.
    """
    generator, shape = np.random.default_rng(seed), (max(batches), *images.shape[1:])
    if np.issubdtype(images.dtype, np.integer):
        noise = generator.integers(0, 256, shape).astype(images.dtype)
    else:
        noise = generator.standard_normal(shape, dtype=np.float32).astype(images.dtype)
    groups = {"real": take(images, max(batches)), "noise": noise}
    larger = take(images, 2)
    for axis in open_axes:
        larger = larger.repeat(2, axis)  # not laid out twice: the mean over a part would be that of the whole
    usual = tuple(Probe(group[:count], source) for source, group in groups.items() for count in batches)
    return (*usual, Probe(larger, "enlarged")) if open_axes else usual


def take(images: Images, count: int) -> Images:
    """The first `count`, over and over where there are fewer."""
    return images[np.arange(count) % len(images)]


def check_parity(
    reference: Session,
    sessions: Iterable[Session],
    batches: Iterable[Images | Probe],
    *,
    limits: Limits,
) -> Parity:
    """Run every batch through the reference and each session, and compare every output.

    Args:
        reference: what is right.
        sessions: what is compared.
        batches: images as the sessions take them; real ones tell more than noise, both tell most: `make_probes`.
        limits: how far apart they may be.
    """
    probes = [batch if isinstance(batch, Probe) else Probe(batch) for batch in batches]
    expected = [reference.run_all(probe.images) for probe in probes]
    vacuous = _vacuous(expected, limits)
    tested = list(sessions)
    checks: list[ParityCheck] = []
    same: list[tuple[int, float]] = []
    for probe, right in zip(probes, expected, strict=True):
        for session in tested:
            found = list(_compare(probe, right, session, limits, vacuous))
            checks += found
            same += [(check.batch, check.top1_agreement) for check in found[:1] if check.top1_agreement is not None]
    seen = sum(batch for batch, _ in same)
    top1 = sum(batch * share for batch, share in same) / seen if seen else None
    return Parity(tuple(checks), top1, limits.min_top1)


def _compare(
    probe: Probe, expected: Outputs, session: Session, limits: Limits, vacuous: Sequence[bool]
) -> Iterator[ParityCheck]:
    actual, failure = _answers(session, probe.images)
    if failure is None and len(actual) != len(expected):
        failure = f"it has {len(actual)} outputs where the model has {len(expected)}"
    names = session.output_names or tuple(f"output_{index}" for index in range(len(actual)))
    for index, right in enumerate(expected):
        got = actual[index] if index < len(actual) else np.zeros(0, np.float32)
        finite = bool(np.isfinite(right).all())
        scale = float(np.abs(right).max(initial=0)) if finite else _LARGEST
        worst, rms = difference(got, right)
        passed = failure is None and finite and worst <= limits.atol + limits.rtol * scale
        passed = passed and (limits.max_rms is None or rms <= limits.max_rms)
        yield ParityCheck(
            batch=len(probe.images),
            images=probe.source,
            runtime=str(session.options["backend"]),
            optimization=str(session.options.get("graph_optimization", "none")),
            output=names[index] if index < len(names) else f"output_{index}",
            max_abs=worst,
            max_rel=worst / scale if scale else worst,
            rms_rel=rms,
            logit_scale=scale,
            top1_agreement=_top1(got, right),
            atol=limits.atol,
            rtol=limits.rtol,
            max_rms=limits.max_rms,
            vacuous=vacuous[index],
            passed=passed,
            reason=failure or _reason(got, right),
        )


def _answers(session: Session, images: Images) -> tuple[Outputs, str | None]:
    try:
        return session.run_all(images), None
    except ExportError as error:  # a graph that fixed its batch, for one
        return (), str(error)


def _reason(actual: NDArray[Any], expected: NDArray[Any]) -> str | None:
    if not np.isfinite(expected).all():
        return "the model's own answer is NaN or infinite"
    if actual.shape != expected.shape:
        return f"the answer is {actual.shape} where the model's is {expected.shape}"
    return None if np.isfinite(actual).all() else "the answer is NaN or infinite"


def difference(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """Largest absolute difference, and root mean square as a share of the reference's.

    Both are the largest float32 where the shapes differ or a difference is not finite.
    """
    if actual.shape != expected.shape:
        return _LARGEST, _LARGEST
    with np.errstate(invalid="ignore", over="ignore"):
        apart = actual.astype(np.float64) - expected.astype(np.float64)
        worst = float(np.abs(apart).max(initial=0))
        size = float(np.sqrt(np.square(expected, dtype=np.float64).mean())) if expected.size else 0.0
        rms = float(np.sqrt(np.square(apart).mean())) if apart.size else 0.0
    if not np.isfinite(worst) or not np.isfinite(rms):
        return _LARGEST, _LARGEST
    return min(worst, _LARGEST), min(rms / size if size else rms, _LARGEST)


def _top1(actual: NDArray[Any], expected: NDArray[Any]) -> float | None:
    if expected.ndim != 2 or not len(expected):
        return None
    if actual.shape != expected.shape:
        return 0.0
    return float((actual.argmax(1) == expected.argmax(1)).mean())


def _vacuous(expected: Sequence[Outputs], limits: Limits) -> list[bool]:
    """For each output, whether one constant would pass for every image; of a single image, for every value."""
    found = []
    for answers in zip(*expected, strict=True):
        rows = [row.astype(np.float64) for answer in answers for row in answer]
        if not rows or len({row.shape for row in rows}) > 1 or not all(np.isfinite(row).all() for row in rows):
            found.append(False)
            continue
        stacked = np.stack(rows) if len(rows) > 1 else rows[0].reshape(-1, 1)
        spread = float(np.ptp(stacked, axis=0).max(initial=0))
        allowed = limits.atol + limits.rtol * float(np.abs(stacked).max(initial=0))
        found.append(spread <= 2 * allowed)
    return found
