"""The weights along a training: snapshots/epoch-NNN.safetensors, which `ntksap analyze` looks at.

Snapshots are no part of what the train stage made: without them it is as finished as with them, and one can be deleted
at any time. Epoch 0 is what the first step starts from.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from torch import nn

from ntksap_export.checkpoint import Provenance, SparseCheckpoint
from ntksap_export.masks import Mask
from ntksap_export.training.checkpoints import Saved

FOLDER = "snapshots"
_NAME = re.compile(r"epoch-(\d{3,})\.safetensors")


class Snapshots:
    """What one training keeps.

    Args:
        run: the run's directory.
        epochs: after which of them the weights are kept.
        model: what is trained, with the weights that training starts from.
        mask: of `model`.
        provenance: of the run.
        saved: the state that the training will go on from, if it was interrupted. Without one it is new, and the
            snapshots of a training before it are removed.
    """

    def __init__(
        self,
        run: Path,
        epochs: Collection[int],
        model: nn.Module,
        mask: Mask,
        provenance: Provenance,
        saved: Saved | None,
    ) -> None:
        self._run, self._epochs = run, frozenset(epochs)
        self._model, self._mask, self._provenance = model, mask, provenance
        self._saved = saved
        if saved is None:
            shutil.rmtree(run / FOLDER, ignore_errors=True)
        if 0 in self._epochs and not snapshot_file(run, 0).is_file():
            self._write(0)

    def missed(self) -> list[int]:
        """The epochs that are asked for, lie before the saved state and were not kept: their weights are gone."""
        past = [] if self._saved is None else [epoch for epoch in self._epochs if epoch <= self._saved.epoch]
        return sorted(epoch for epoch in past if not self._may_write(epoch) and not self._there(epoch))

    def after(self, epoch: int) -> None:
        """Keep the weights if `epoch`, which has just ended, or is told again by a resumed training, is asked for."""
        if epoch in self._epochs and self._may_write(epoch) and not (self._told_again(epoch) and self._there(epoch)):
            self._write(epoch)

    def _told_again(self, epoch: int) -> bool:
        return self._saved is not None and epoch <= self._saved.epoch

    def _may_write(self, epoch: int) -> bool:
        """Of the epochs that a resumed training tells again, the model holds the weights of the last one at most."""
        return self._saved is None or epoch > self._saved.epoch or (epoch, 0) == (self._saved.epoch, self._saved.step)

    def _there(self, epoch: int) -> bool:
        return snapshot_file(self._run, epoch).is_file()

    def _write(self, epoch: int) -> None:
        SparseCheckpoint.of(self._model, self._mask, self._provenance).save(snapshot_file(self._run, epoch))


def snapshot_file(run: Path, epoch: int) -> Path:
    """Where the weights after `epoch` stand; 0 is before the first step."""
    return run / FOLDER / f"epoch-{epoch:03d}.safetensors"


def snapshot_files(run: Path) -> dict[int, Path]:
    """Epoch -> file of the snapshots that a run holds, in order."""
    folder = run / FOLDER
    found = {int(match[1]): path for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))
