"""The table of methods: literal strings, so that listing them imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScorerInfo:
    """One method: where its class stands, whether it reads images and labels, and what it does."""

    target: str
    needs_data: bool
    summary: str


SCORERS: dict[str, ScorerInfo] = {
    "ntksap": ScorerInfo(
        "ntksap_export.pruning.scorers.ntksap:NtkSap",
        False,
        "Keep what moves the spectrum of the neural tangent kernel most (Wang, Li & Sun, ICLR 2023)",
    ),
}
