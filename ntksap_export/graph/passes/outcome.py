"""What a pass says of its work: data first, a sentence of it second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Left:
    """Something that a pass could have changed and did not.

    Attributes:
        what: a node, an initializer, or so many channels of a layer.
        why: the reason, in a few words.
    """

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass did.

    Attributes:
        said: it in one line, with its sums.
        changed: one row of plain JSON for each thing that was changed; the keys are the pass's own.
        left: what it refused, with the reason.
        totals: sums over the whole graph, [before, after] each, where the pass counts them.
    """

    said: str
    changed: tuple[Mapping[str, Any], ...] = ()
    left: tuple[Left, ...] = ()
    totals: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassLog:
    """The outcome of a pass of the table, under its name; as text one line."""

    name: str
    outcome: Outcome

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome.said}"

    def lines(self, most: int = 5) -> tuple[str, ...]:
        """The line, and one for each thing left, `most` at the most."""
        left = self.outcome.left
        rest = len(left) - most
        more = (f"  left: {rest} more",) if rest > 0 else ()
        return (str(self), *(f"  left: {item.what}: {item.why}" for item in left[:most]), *more)

    def to_json(self) -> dict[str, Any]:
        """As stored in parity.json under `pass_log`."""
        return {
            "pass": self.name,
            "said": self.outcome.said,
            "changed": [dict(row) for row in self.outcome.changed],
            "totals": dict(self.outcome.totals),
            "left": [{"what": item.what, "why": item.why} for item in self.outcome.left],
        }
