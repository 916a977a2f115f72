"""What a report says of a mask that was found by training: each training on the way, and what that cost."""

from __future__ import annotations

from ntksap_export.report.charts import figure
from ntksap_export.report.document import Column, Figure, Table
from ntksap_export.report.inputs import Json, at
from ntksap_export.report.plots import Curve, linear, plot
from ntksap_export.report.text import number, percent, plural, seconds

_COLUMNS = (
    Column("training", "round", words=True),
    Column("density", "density", percent),
    Column("epochs", "epochs"),
    Column("train loss", "train_loss", number),
    Column("train top-1", "train_accuracy", percent),
    Column("validation loss", "val_loss", number),
    Column("validation top-1", "val_accuracy", percent),
    Column("seconds", "seconds", number),
)


def said(mask: Json) -> list[str]:
    """Sentences: what was trained to find the mask, and what its end looked like; nothing where nothing was."""
    log = at(mask, "search", default={})
    if not log:
        return []
    found = [f"The mask was found by {cost(mask)}, before the training that is reported here."]
    if (start := int(at(log, "start_epoch", default=0))) > 0:
        found.append(f"That training goes on from the weights of epoch {start}.")
    if (removed := at(log, "removed_accuracy")) is not None:
        found.append(f"Right after the removal, before any fine-tuning, top-1 accuracy was {percent(removed)}.")
    return found


def cost(mask: Json) -> str:
    """How much was trained, in words; empty where nothing was."""
    log = at(mask, "search", default={})
    if not log:
        return ""
    trainings, epochs = len(at(log, "rounds", default=[])), int(at(log, "epochs", default=0))
    return f"{plural(trainings, 'training')} of {plural(epochs, 'epoch')} in all ({seconds(at(log, 'seconds'))})"


def rounds_table(mask: Json) -> Table:
    """One row a training on the way to the mask."""
    rows = at(mask, "search", "rounds", default=[])
    values = tuple(tuple(at(row, column.key) for column in _COLUMNS) for row in rows)
    return Table("search", "Trainings that found the mask", _COLUMNS, values)


def accuracy_figure(mask: Json) -> Figure | None:
    """Accuracy over density, where more than one density was trained."""
    rows = at(mask, "search", "rounds", default=[])
    points = tuple(
        (100 * float(at(row, "density")), 100 * float(at(row, "val_accuracy")))
        for row in rows
        if at(row, "density") is not None and at(row, "val_accuracy") is not None
    )
    if len({x for x, _ in points}) < 2:
        return None
    caption = "Top-1 accuracy of each network on the way to the mask, by its density."
    x = linear("density, %", [x for x, _ in points])
    y = linear("top-1 accuracy, %", [y for _, y in points])
    return figure(caption, plot(x, y, [Curve("validation", tuple(sorted(points)), 1)], label=caption))
