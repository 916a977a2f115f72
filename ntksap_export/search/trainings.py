"""The trainings of one search: each is done once, however often the search is begun again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ntksap_export.data import Loaders
from ntksap_export.errors import ConfigError
from ntksap_export.masks import Mask
from ntksap_export.processes import from_main, is_main, meet
from ntksap_export.search.job import SearchJob
from ntksap_export.training import Checkpoints, EpochRow, TrainConfig, TrainLog, forget_states, train
from ntksap_export.training.checkpoints import newest_state, read_state, save_state


@dataclass(frozen=True, slots=True, eq=False)
class Trainings:
    """Trains networks for a search, and remembers what came out.

    Attributes:
        job: of the search.
        loaders: open.
        rows: of the search's log, one for each training, in order.
    """

    job: SearchJob
    loaders: Loaders
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self,
        label: str,
        network: nn.Module,
        mask: Mask,
        config: TrainConfig,
        *,
        density: float | None = None,
        start_epoch: int = 0,
        on_gradient: Callable[[int], None] | None = None,
        on_epoch: Callable[[EpochRow], None] | None = None,
    ) -> None:
        """Train `network` under `mask`, in place, or give it the weights that this training left before a kill.

        Args:
            label: names the training within the search.
            network: on its device; left in eval mode.
            mask: of the network.
            config: how to train.
            density: of what is trained, for the log; None is the mask's.
            start_epoch: as `train` has it.
            on_gradient: as `train` has it.
            on_epoch: as `train` has it.
        """
        states = self.job.states / f"{label}.training"  # gone once the result is stored as `label`
        content = self.recall(label, mask.digest())
        if content is None:
            log = train(
                network,
                mask,
                self.loaders,
                config,
                checkpoints=Checkpoints(states, mask.digest()),
                progress=self.job.progress,
                on_gradient=on_gradient,
                on_epoch=on_epoch,
                start_epoch=start_epoch,
                stop=self.job.stop,
            )
            row = _row(len(self.rows), label, mask.density if density is None else density, log)
            content = self.remember(label, {"model": network.state_dict(), "row": row}, mask.digest())
            if is_main():
                forget_states(states)
            meet()
        network.load_state_dict(content["model"])
        network.eval()
        row = content["row"]
        self.rows.append(row)
        self.job.progress.say(
            f"{label}: density {row['density']:.4f}, {row['epochs']} epochs, accuracy {row['val_accuracy']:.2%}"
        )

    def remember(self, label: str, content: dict[str, Any], fingerprint: str = "") -> dict[str, Any]:
        """Store tensors and plain values for a later call of the same search; answers with them."""
        if is_main():
            save_state(Checkpoints(self.job.states / label, fingerprint, keep=1), content, 0, 0, None)
        return content

    def recall(self, label: str, fingerprint: str = "") -> dict[str, Any] | None:
        """What `remember` stored, in every process; None if there is nothing.

        Raises:
            RunDirectoryError: it is damaged, or of another job.
        """
        where = Checkpoints(self.job.states / label, fingerprint, keep=1)
        saved = from_main(lambda: newest_state(where, self.job.progress.say))
        return None if saved is None else read_state(where, saved)

    def log(self, method: str, **more: Any) -> dict[str, Any]:
        """What the search tells: its trainings and their sums, and `more`."""
        return {
            "method": method,
            "rounds": self.rows,
            "epochs": sum(row["epochs"] for row in self.rows),
            "seconds": sum(row["seconds"] for row in self.rows),
            **more,
        }


@contextmanager
def trainings(job: SearchJob) -> Iterator[Trainings]:
    """Open the data for the trainings of a search."""
    with closing(job.loaders()) as loaders:
        yield Trainings(job, loaders)


def search_config(job: SearchJob) -> TrainConfig:
    """How the search trains: as the run, for as many epochs as the search is to have.

    Raises:
        ConfigError: for none.
    """
    epochs = job.train.epochs if job.search_epochs is None else job.search_epochs
    if epochs < 1:
        raise ConfigError("--epochs 0 leaves the search nothing to train for; give --search-epochs")
    return replace(job.train, epochs=epochs)


def _row(number: int, label: str, density: float, log: TrainLog) -> dict[str, Any]:
    final = log.final
    return {
        "round": number,
        "name": label,
        "density": density,
        "epochs": len(log.history),
        "train_loss": final.train_loss,
        "train_accuracy": final.train_accuracy,
        "val_loss": final.val_loss,
        "val_accuracy": final.val_accuracy,
        "seconds": sum(row.seconds for row in log.history),
    }
