"""What a mask broke: layers with nothing kept, channels that nothing reaches, classes that can never be told."""

from __future__ import annotations

from dataclasses import dataclass

from ntksap_export.masks.mask import Mask


@dataclass(frozen=True, slots=True)
class MaskHealth:
    """Counts of what was emptied, and what to do about it.

    Attributes:
        collapsed_layers: names of weights with nothing kept.
        empty_output_channels: per weight name, how many rows (filters) have nothing kept; only where not zero.
        empty_input_channels: per weight name, how many columns have nothing kept; only where not zero.
        classifier: name of the last prunable weight.
        empty_classes: rows of the classifier with nothing kept: these classes answer with a constant.
        classes: rows of the classifier.
        advice: one sentence per finding; empty when the mask is healthy.
    """

    collapsed_layers: tuple[str, ...]
    empty_output_channels: dict[str, int]
    empty_input_channels: dict[str, int]
    classifier: str
    empty_classes: int
    classes: int
    advice: tuple[str, ...]


def mask_health(mask: Mask) -> MaskHealth:
    """Look at every tensor of `mask`; the classifier is taken to be the last one."""
    collapsed, no_output, no_input = [], {}, {}
    for name, kept in mask.items():
        if not bool(kept.any()):
            collapsed.append(name)
            continue
        if rows := int((~kept.flatten(1).any(1)).sum()):
            no_output[name] = rows
        if columns := int((~kept.transpose(0, 1).flatten(1).any(1)).sum()):
            no_input[name] = columns
    classifier = list(mask)[-1]
    rows_kept = mask[classifier].flatten(1).any(1)
    empty_classes = int((~rows_kept).sum())
    return MaskHealth(
        collapsed_layers=tuple(collapsed),
        empty_output_channels=no_output,
        empty_input_channels=no_input,
        classifier=classifier,
        empty_classes=empty_classes,
        classes=rows_kept.numel(),
        advice=_advice(mask, collapsed, no_output, classifier, empty_classes, rows_kept.numel()),
    )


def _advice(
    mask: Mask,
    collapsed: list[str],
    no_output: dict[str, int],
    classifier: str,
    empty_classes: int,
    classes: int,
) -> tuple[str, ...]:
    advice = []
    if collapsed:
        names = ", ".join(collapsed[:4]) + (", ..." if len(collapsed) > 4 else "")
        advice.append(
            f"{len(collapsed)} layer(s) have nothing kept ({names}): where no shortcut leads around, nothing passes. "
            f"Lower --sparsity, raise --rounds, or --keep-dense {collapsed[0].removesuffix('.weight')}."
        )
    if empty_classes:
        advice.append(
            f"{empty_classes} of {classes} classifier rows have nothing kept: their classes get a constant score. "
            f"--keep-dense {classifier.removesuffix('.weight')} keeps them at the cost of "
            f"{mask[classifier].numel():,} weights."
        )
    emptied = sum(count for name, count in no_output.items() if name != classifier)
    if emptied:
        advice.append(
            f"{emptied} channels in {sum(name != classifier for name in no_output)} layers have nothing kept: "
            "they only emit a constant; export removes those that it can."
        )
    return tuple(advice)
