"""Where two runs of one graph part, as a value. `locate` finds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first node whose value differs.

    Attributes:
        node: its name in the graph.
        op_type: its operator.
        value: name of what it computes.
        until: the last node that it can be instead, where the model gives no value to compare in between; else None.
        module: the torch module that it belongs to, or the first one after it; None at the output.
        after: the last torch module that still agrees; None where there is none.
        max_abs: largest absolute difference there.
        scale: largest absolute value of the right answer there.
        between: the two that were compared: `torch and onnxruntime (off)`, `onnxruntime (off) and (all)`.
    """

    node: str
    op_type: str
    value: str
    until: str | None
    module: str | None
    after: str | None
    max_abs: float
    scale: float
    between: str

    def sentence(self) -> str:
        """In words, for one line."""
        place = f"{self.op_type} '{self.node}'"
        place += f" to '{self.until}'" if self.until else ""
        if self.module is not None:
            place += f" ({'before ' if self.until else ''}module {self.module})"
        return f"{self.between} part first at {place}, by {self.max_abs:.3g} where values reach {self.scale:.3g}"
