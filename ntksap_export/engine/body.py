"""The steps of one region while they are being merged: who makes a value, who reads it, what must stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ntksap_export.engine.operators import Act, Activation, Tensor
from ntksap_export.engine.steps import Step


class Body:
    """Steps in order; changed in place.

    Attributes:
        steps: each value is made before it is read.
        visible: names of values that are read outside, or are outputs of the graph.
    """

    def __init__(self, steps: Iterable[Step], visible: Iterable[str]) -> None:
        self.steps = list(steps)
        self.visible = frozenset(visible)
        self._makers = {step.output: step for step in self.steps}
        self._readers: dict[str, list[Step]] = {}
        for step in self.steps:
            for name in step.inputs:
                self._readers.setdefault(name, []).append(step)

    def each(self, rule: Callable[[Body, Step], None]) -> None:
        """Offer every step to a rule, in order; those that it removes are not offered."""
        for step in tuple(self.steps):
            if self._makers.get(step.output) is step:
                rule(self, step)

    def maker(self, name: str) -> Step | None:
        """The step that makes a value; None for an input of the region."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Step]:
        """Once for each time that a step reads the value."""
        return list(self._readers.get(name, ()))

    def only_maker(self, name: str) -> Step | None:
        """The maker of a value that is read once, and by nobody outside."""
        alone = len(self._readers.get(name, ())) == 1 and name not in self.visible
        return self._makers.get(name) if alone else None

    def only_reader(self, name: str) -> Step | None:
        """The one reader of a value that nobody outside reads."""
        return self._readers[name][0] if len(self._readers.get(name, ())) == 1 and name not in self.visible else None

    def read(self, step: Step, inputs: list[str]) -> None:
        """Give a step other inputs."""
        for name in step.inputs:
            self._readers[name].remove(step)
        step.inputs = inputs
        for name in inputs:
            self._readers.setdefault(name, []).append(step)

    def remove(self, step: Step) -> None:
        """Take out a step whose output nobody reads any more."""
        self.read(step, [])
        if self._makers.get(step.output) is step:
            del self._makers[step.output]
        self.steps.remove(step)

    def take_over(self, step: Step, later: Step) -> None:
        """Let `step` stand in the place of `later`, under its output's name; `later` goes."""
        place = self.steps.index(later)
        self.remove(later)
        self.steps.remove(step)
        self.steps.insert(place - 1, step)
        del self._makers[step.output]
        step.output, step.made = later.output, later.made
        self._makers[step.output] = step

    def bypass(self, step: Step) -> None:
        """Let all who read a step's output read its first input; it goes, or stays as a copy where it is seen."""
        source = step.inputs[0]
        for reader in set(self.readers(step.output)):
            self.read(reader, [source if name == step.output else name for name in reader.inputs])
        if step.output not in self.visible:
            self.remove(step)
            return
        step.kind, step.activation = "act", Activation()


def is_idle(step: Step) -> bool:
    """Whether a step applies no activation yet."""
    return step.activation.act is Act.NONE


def is_row(tensor: Tensor) -> bool:
    """Whether its plane is one position."""
    return tensor.height == tensor.width == 1
