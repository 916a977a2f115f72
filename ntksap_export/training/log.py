"""What training tells: a row per epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch. Losses are means over images, accuracies shares in [0, 1], `lr` that of the last step.

    Epoch 0 is a network that was only judged.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    images_per_s: float


@dataclass(frozen=True, slots=True)
class TrainLog:
    """All epochs of a run. The weights left in the model are those of the last one."""

    history: tuple[EpochRow, ...]
    device: str
    precision: str

    @property
    def final(self) -> EpochRow:
        """The last epoch."""
        return self.history[-1]

    @property
    def best(self) -> EpochRow:
        """The first epoch with the highest validation accuracy."""
        return max(self.history, key=lambda row: (row.val_accuracy, -row.epoch))

    def to_json(self) -> dict[str, Any]:
        """As stored in metrics.json."""
        return {
            "schema": 1,
            "epochs": sum(row.epoch > 0 for row in self.history),
            "seconds": sum(row.seconds for row in self.history),
            "device": self.device,
            "precision": self.precision,
            "final": asdict(self.final),
            "best": asdict(self.best),
            "history": [asdict(row) for row in self.history],
        }
