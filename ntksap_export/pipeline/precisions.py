"""model.fp16.onnx and model.int8.onnx beside model.onnx: made of it, compared with the model, judged on the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ntksap_export.data import Loader, scoring_set
from ntksap_export.errors import DataError, ExportError
from ntksap_export.graph import Graph, Preprocessing, remove_graph
from ntksap_export.graph.precision import named
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.graph_input import taken_of_normalized
from ntksap_export.pipeline.int8 import Examined, make_int8
from ntksap_export.runtime.accuracy import Judged, answers, judge
from ntksap_export.runtime.half import check_activations, to_fp16
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.parity import Limits, Parity
from ntksap_export.runtime.session import Images, Logits
from ntksap_export.runtime.verify import verify

PRECISIONS: Final = ("fp16", "int8")
# Against the torch model, as shares of its logits: the largest difference and the root mean square. Then the share of
# validation images with the float32 graph's first answer. Measured on ResNet-20, VGG-16, ResNet-50 and MobileNet
# (docs/graphs.md): fp16 up to 0.008, 0.006 and 1; int8 up to 0.19, 0.065 and 0.966. With ranges that do not fit (16
# images, or entropy's) int8 has 0.19 to 1.0, 0.04 to 0.67 and 0.57 to 1.
LIMITS: Final = {"fp16": Limits(rtol=0.02, max_rms=0.02), "int8": Limits(rtol=0.3, max_rms=0.2)}
AGREEMENT: Final = {"fp16": 0.98, "int8": 0.9}
Smaller = tuple[Graph, Examined, dict[str, Any]]  # what was seen of it, and what parity.json says besides
_PIXELS: Final = 2**18  # of a batch: its activations are all held at once while calibrating


class RejectedError(ExportError):
    """The float32 graph is in its place, but a smaller one is not good enough."""


@dataclass
class Bench:
    """What a precision is made of and judged by."""

    context: Context
    model: nn.Module
    graph: Graph
    images: Images
    told: Preprocessing

    @cached_property
    def calibration(self) -> tuple[Images, ...]:
        """Batches of training images, as the graph takes them, as many of each class as of any other.

        Raises:
            DataError: there are fewer than were asked for.
        """
        config = self.context.config
        images, _ = scoring_set(self.context.data(), config.calibration_images, config.seed)
        if len(images) < config.calibration_images:
            raise DataError(
                f"there are {len(images)} training images, --calibration-images asks for {config.calibration_images}; "
                "give more data or a smaller number"
            )
        return tuple(
            part.numpy()
            for part in torch.split(taken_of_normalized(self.context.config, self.told, images), self._batch)
        )

    @cached_property
    def before(self) -> Logits:
        """The float32 graph's logits on every validation image."""
        return self._answers(self.graph, "float32")

    @cached_property
    def labels(self) -> np.ndarray:
        """Of every validation image."""
        return np.asarray(self.context.data().val.labels.numpy())

    def examine(self, graph: Graph, name: str) -> Examined:
        """A graph beside the float32 one on every validation image, and beside the model."""
        judged = judge(self.before, self._answers(graph, name), self.labels)
        parity = verify(self.model, graph, self.images, LIMITS[name], noise=name != "int8")
        return Examined(judged, parity, _problem(name, judged, parity, self.context.config.max_drop))

    @property
    def _batch(self) -> int:
        return max(1, min(64, _PIXELS // self.context.shape[-1] ** 2))

    def _answers(self, graph: Graph, name: str) -> Logits:
        total = len(self.labels)
        with (
            self.context.progress.task(f"validate {name}", total) as task,
            OrtSession(graph.to_bytes(), threads=torch.get_num_threads()) as session,
        ):
            return answers(session, self._validation(), task.advance)

    def _validation(self) -> Iterator[Images]:
        data = self.context.data()
        for images, _ in Loader(data.val, data.spec, self._batch, train=False, seed=0):
            yield taken_of_normalized(self.context.config, self.told, images).numpy()


@dataclass(frozen=True, slots=True)
class Precisions:
    """What was made. `problems` says what was wrong with a graph that was rejected."""

    files: tuple[str, ...] = ()
    entries: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def run_precisions(context: Context, model: nn.Module, graph: Graph, images: Images, told: Preprocessing) -> Precisions:
    """Write what `--fp16` and `--int8` ask for; a graph that fails is left as rejected.PRECISION.onnx.

    Args:
        context: of the run; model.onnx is in its place.
        model: on the CPU; what is right.
        graph: the float32 one, as it was saved.
        images: real ones to compare on, as the graph takes them.
        told: what is done to an image before the run's model takes it.

    Raises:
        ExportError: a graph cannot be made.
        DataError: too few images to calibrate on.
    """
    for name in PRECISIONS:
        for file in (f"model.{name}.onnx", f"rejected.{name}.onnx"):  # of another model.onnx
            remove_graph(context.run.file(file))
    asked = [name for name in PRECISIONS if getattr(context.config, name)]
    bench, made = Bench(context, model, named(graph), images, told), Precisions()
    for name in asked:
        smaller, seen, details = _MAKERS[name](bench)
        problem = seen.problem
        file = f"{'rejected' if problem else 'model'}.{name}.onnx"
        written = smaller.save(context.run.file(file), context.config.external_data)
        entry = {
            **seen.parity.to_json(),
            **details,
            "passed": problem is None,
            "problem": problem,
            "file": file,
            "bytes": sum(part.stat().st_size for part in written),
            "accuracy": seen.judged.to_json(),
            "least_agreement": AGREEMENT[name],
            "max_drop": context.config.max_drop,
        }
        context.progress.say(f"  {name}: {_told(seen.judged)}, {entry['bytes'] / 1e6:.2f} MB")
        made = replace(
            made,
            files=made.files if problem else (*made.files, *(part.name for part in written)),
            entries={**made.entries, name: entry},
            problems=made.problems if problem is None else (*made.problems, f"{problem}; see {file} and parity.json"),
        )
    return made


def _fp16(bench: Bench) -> Smaller:
    config = bench.context.config
    half = to_fp16(bench.graph, float_io=config.fp16_io == "float32")
    reach = check_activations(bench.graph, bench.calibration)
    return half, bench.examine(half, "fp16"), {"io": config.fp16_io, "largest_activation": reach}


def _int8(bench: Bench) -> Smaller:
    return make_int8(bench.context, bench.graph, bench.calibration, lambda graph: bench.examine(graph, "int8"))


_MAKERS: Final[dict[str, Callable[[Bench], Smaller]]] = {"fp16": _fp16, "int8": _int8}


def _told(judged: Judged) -> str:
    return (
        f"top-1 accuracy {judged.after:.2%}, float32 {judged.before:.2%}; {judged.agreement:.2%} of the first answers "
        f"are the same, SQNR {judged.sqnr_db:.1f} dB"
    )


def _problem(name: str, judged: Judged, parity: Parity, max_drop: float) -> str | None:
    """What is wrong with a graph, in one line."""
    if not parity.passed:
        return f"model.{name}.onnx: {parity.complaint()}"
    if judged.agreement < AGREEMENT[name]:
        return (
            f"{judged.agreement:.1%} of the first answers of model.{name}.onnx are those of model.onnx; "
            f"{AGREEMENT[name]:.0%} are asked for"
        )
    if judged.drop > max_drop:
        return (
            f"{name} costs {judged.drop:.2f} points of accuracy ({judged.before:.2%} to {judged.after:.2%}), more than "
            f"--max-drop {max_drop:g}"
        )
    return None
