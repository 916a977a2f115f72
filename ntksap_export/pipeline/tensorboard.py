"""TensorBoard's event files beside metrics.jsonl: a scalar per epoch of what training tells. An extra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ntksap_export.errors import UnavailableError
from ntksap_export.training import EpochRow

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SCALARS: Final = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "val/loss": "val_loss",
    "val/accuracy": "val_accuracy",
    "lr": "lr",
    "images_per_s": "images_per_s",
}  # tag -> field of `EpochRow`


class TensorBoard:
    """Writes epochs as they end; the epoch is the step. To be closed.

    A resumed training tells its earlier epochs again, and one that overwrites another begins anew: the first row that
    comes hides all from its epoch on that the directory had before (TensorBoard's `purge_step`).

    Args:
        directory: where the event files go; made with the first row. None writes nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._writer: SummaryWriter | None = None

    def write(self, row: EpochRow) -> None:
        """Add an epoch; it is on the disk when this returns."""
        if self._directory is None:
            return
        if self._writer is None:
            self._writer = _writer_class()(str(self._directory), purge_step=row.epoch)
        for tag, field in SCALARS.items():
            self._writer.add_scalar(tag, getattr(row, field), row.epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def check_tensorboard() -> None:
    """Fail before training where the first epoch would.

    Raises:
        UnavailableError: TensorBoard is not installed.
    """
    _writer_class()


def _writer_class() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UnavailableError(
            f"--tensorboard needs the tensorboard package ({error}); install the extra: "
            "pip install 'ntksap-export[tensorboard]'"
        ) from error
    return SummaryWriter
