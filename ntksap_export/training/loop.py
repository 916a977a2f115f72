"""The training loop: epochs of steps on the weights that live, saved as they go, on one process or on many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice

import torch
from torch import nn

from ntksap_export.data import Loaders
from ntksap_export.data.augment import seed_of
from ntksap_export.errors import Preempted, RunDirectoryError, TrainingError
from ntksap_export.masks import Mask
from ntksap_export.processes import from_main, is_main, meet, rank, world_size
from ntksap_export.progress import Progress, Silent, StepNote, Task
from ntksap_export.pruning.distributed import check_same
from ntksap_export.training.checkpoints import Checkpoints, last_saved, newest_state, read_state, save_state
from ntksap_export.training.config import TrainConfig
from ntksap_export.training.diagnose import first_bad_layer
from ntksap_export.training.evaluate import evaluate
from ntksap_export.training.guard import Guard, Verdict
from ntksap_export.training.log import EpochRow, TrainLog
from ntksap_export.training.parallel import agree, lost_processes_named, share_buffers, summed
from ntksap_export.training.random_state import own_random_state, random_state, set_random_state
from ntksap_export.training.schedule import learning_rate
from ntksap_export.training.sync_batch_norm import synced_batch_norm
from ntksap_export.training.work import Work, begin

_ADVICE = "Lower --lr or use --precision fp32, with --overwrite or another --out"


@dataclass(slots=True, eq=False)
class _Place:
    """How far a training is: whole epochs, and what is known of the one that is under way."""

    start: int = 0  # epochs of the schedule that count as done before the first
    history: list[EpochRow] = field(default_factory=list)
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, right answers, images of this process
    elapsed: float = 0.0
    random: torch.Tensor | None = None

    @property
    def done(self) -> int:
        """Whole epochs of the schedule behind it."""
        return self.start + len(self.history)


def train(
    model: nn.Module,
    mask: Mask,
    loaders: Loaders,
    config: TrainConfig,
    *,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[EpochRow], None] | None = None,
    on_gradient: Callable[[int], None] | None = None,
    start_epoch: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> TrainLog:
    """Train the weights that `mask` keeps; pruned ones are exactly zero after every step.

    Within a process group (`torch.distributed`) every process calls it, with the loaders' `part` its own, and all end
    with the same weights; rank 0 alone writes. Torch's own random state is as it was before, afterwards.

    Args:
        model: trained in place, on the device it is on; left in eval mode, with the averaged weights if `config.ema`.
        mask: names and shapes of `model`; the same in every process.
        loaders: training and validation batches, on the model's device.
        config: epochs, rates, precision. With `epochs` 0, or none after `start_epoch`, the network is judged as it is:
            one row, of epoch 0 and rate 0, its training columns of as many training batches as there are to judge by.
        checkpoints: where states are saved; if one is there already, training goes on from it.
        progress: where steps are shown.
        on_epoch: called with each finished epoch's row, those of a resumed run included.
        on_gradient: called in every process before each optimizer step with its number in the whole schedule, from 0;
            gradients are averaged and unscaled, and not clipped yet. It may change them and the weights, alike in all.
        start_epoch: epochs of the schedule that the weights have behind them: training goes on with the next.
        stop: asked after each step (on a GPU every 25); once it says yes, the state is saved and training ends.

    Raises:
        TrainingError: the loss became NaN or infinite, or diverged; names epoch, step, layer and the last saved state.
            Another process ended.
        Preempted: `stop` said yes.
        RunDirectoryError: the saved states are all broken, or belong to other settings.
        CheckpointError: the mask does not fit the model.
        ScoreError: the processes hold different masks.
    """
    show = progress or Silent()
    check_same(mask.digest())
    with lost_processes_named(), own_random_state(model), synced_batch_norm(model, config.sync_bn):
        work = begin(model, mask, config)
        place = _Place(start_epoch)
        if checkpoints is not None:
            _resume_(place, work, checkpoints, len(loaders.train), show)
        tell = on_epoch or (lambda _: None)
        for row in place.history:
            tell(row)
        run = _Run(work, loaders, checkpoints, show, place, _guard(work, loaders, checkpoints, stop), on_gradient)
        with show.task("training", config.epochs, done=place.done) as task:
            for epoch in range(place.done + 1, config.epochs + 1):
                row = run.epoch(epoch)
                task.advance(note=f"accuracy {row.val_accuracy:.1%}")
                tell(row)
        if not place.history:
            place.history.append(run.look())
            tell(place.history[0])
        _leave(work)
    return TrainLog(tuple(place.history), work.device.type, work.precision)


@dataclass(slots=True, eq=False)
class _Run:
    """What an epoch needs."""

    work: Work
    loaders: Loaders
    checkpoints: Checkpoints | None
    show: Progress
    place: _Place
    guard: Guard
    on_gradient: Callable[[int], None] | None

    def epoch(self, epoch: int) -> EpochRow:
        """Train one epoch, or the rest of it, judge it and save the state."""
        work, place, config = self.work, self.place, self.work.config
        steps = len(self.loaders.train)
        self.loaders.train.set_epoch(epoch)
        work.model.train()
        self._seed(epoch)
        begun = time.perf_counter() - place.elapsed
        sums = torch.tensor(place.sums, dtype=torch.float64, device=work.device)
        with self.show.task(f"epoch {epoch}/{config.epochs}", steps, done=place.step) as task:
            for index, (images, labels) in enumerate(self.loaders.train.batches(place.step), place.step):
                number = (epoch - 1) * steps + index
                rate = learning_rate(config, number, steps)
                total = self.loaders.train.global_images(index)
                loss, right = work.backward(images, labels, total, f"{config.seed}/{epoch}/{index}")
                sums += torch.stack((loss, right, torch.full_like(loss, len(labels))))
                place.step = index + 1
                verdict = self.guard.look(loss / len(labels), place.step, last=place.step == steps)
                self._refuse(verdict, images, epoch)
                work.apply(rate, self.on_gradient and partial(self.on_gradient, number))
                _tell(task, sums, begun, rate)
                if (verdict.stop or verdict.save) and place.step < steps:
                    place.sums = summed(sums).tolist()
                    place.elapsed = time.perf_counter() - begun
                    self._save(None)
                    self._end_if(verdict.stop)
        trained = time.perf_counter() - begun
        row = self._judge(epoch, summed(sums).tolist(), rate, trained, images)
        place.history.append(row)
        place.step, place.sums, place.elapsed, place.random = 0, [0.0, 0.0, 0.0], 0.0, None
        self._save(row.val_accuracy)
        self._end_if(any(agree([self.guard.stop()], work.device)))
        return row

    def look(self) -> EpochRow:
        """Judge the network as it is."""
        begun, judged, precision = time.perf_counter(), self.work.judged, self.work.precision
        self.loaders.train.set_epoch(0)
        some = islice(self.loaders.train.batches(), len(self.loaders.val))
        seen, held_out = evaluate(judged, some, precision), evaluate(judged, self.loaders.val, precision)
        return EpochRow(0, *seen, *held_out, lr=0.0, seconds=time.perf_counter() - begun, images_per_s=0.0)

    def _judge(self, epoch: int, sums: list[float], rate: float, trained: float, images: torch.Tensor) -> EpochRow:
        loss, right, seen = sums
        begun = time.perf_counter()
        share_buffers(self.work.model, self.work.judged)
        val_loss, val_right = evaluate(self.work.judged, self.loaders.val, self.work.precision)
        # The last step's update is judged by no training loss; a state with NaN in it must not be kept.
        if not math.isfinite(val_loss):
            self._refuse(Verdict("the validation loss is NaN or infinite", self.place.step), images, epoch)
        return EpochRow(
            epoch=epoch,
            train_loss=loss / seen,
            train_accuracy=right / seen,
            val_loss=val_loss,
            val_accuracy=val_right,
            lr=rate,
            seconds=trained + time.perf_counter() - begun,
            images_per_s=seen / trained,
        )

    def _refuse(self, verdict: Verdict, images: torch.Tensor, epoch: int) -> None:
        if verdict.reason:
            raise TrainingError(_what_went_wrong(verdict, self.work.model, images, epoch, self.checkpoints))

    def _end_if(self, asked: bool) -> None:
        if asked:
            place = self.place
            where = f"epoch {place.done}" + (f" and {place.step} steps" if place.step else "")
            kept = f"the state after {where} is saved" if self.checkpoints else "nothing was saved"
            raise Preempted(f"stopped by SIGTERM, {kept}; the same command goes on from there")

    def _save(self, accuracy: float | None) -> None:
        if self.checkpoints is None:
            return
        place = self.place
        if accuracy is None and not all(bool(value.isfinite().all()) for value in self.work.model.parameters()):
            raise TrainingError(
                f"a weight became NaN or infinite in epoch {place.done + 1}, step {place.step}; "
                f"{_kept(self.checkpoints)}. {_ADVICE}"
            )
        if is_main():
            content = {
                **self.work.state(),
                "history": [asdict(row) for row in place.history],
                "step": place.step,
                "sums": place.sums,
                "elapsed": place.elapsed,
                "steps": len(self.loaders.train),
                "random": random_state(self.work.device),
                "device": self.work.device.type,
            }
            save_state(self.checkpoints, content, place.done, place.step, accuracy)
        self.guard.saved()

    def _seed(self, epoch: int) -> None:
        """Dropout and the like draw from torch's own generators: set them, or put them back where they were."""
        if self.place.step and self.place.random is not None and world_size() == 1:
            set_random_state(self.work.device, self.place.random)
        else:
            torch.manual_seed(seed_of(f"{self.work.config.seed}/{epoch}/{self.place.step}/{rank()}/layers"))


def _guard(work: Work, loaders: Loaders, checkpoints: Checkpoints | None, stop: Callable[[], bool]) -> Guard:
    minutes = math.inf if checkpoints is None else checkpoints.minutes
    return Guard(loaders.spec.num_classes, work.device, stop, minutes)


def _tell(task: Task, sums: torch.Tensor, begun: float, rate: float) -> None:
    def note() -> StepNote:
        loss, right, seen = sums.tolist()
        seconds = time.perf_counter() - begun
        return StepNote(loss / seen, right / seen, seen * world_size() / seconds, rate)

    task.advance(note=note)


def _resume_(place: _Place, work: Work, checkpoints: Checkpoints, steps: int, show: Progress) -> None:
    """Put the newest sound state back, if there is one, and `place` to where training goes on from."""
    saved = from_main(lambda: newest_state(checkpoints, show.say))
    if saved is None:
        return
    content = read_state(checkpoints, saved)
    work.restore_(content)
    meet()
    show.say(f"training goes on after {saved} of {work.config.epochs}")
    try:
        place.history = [EpochRow(**row) for row in content["history"]]
        place.sums = [value / world_size() for value in content["sums"]]  # of all processes; each takes its share
        place.random = content["random"] if content["device"] == work.device.type else None
        place.step, place.elapsed, then = content["step"], content["elapsed"], content["steps"]
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"'{checkpoints.directory / saved.name}' is of another version; "
            f"delete '{checkpoints.directory}' to train from the start"
        ) from error
    if then != steps:
        raise RunDirectoryError(
            f"the data changed since this training was begun: {then} steps an epoch then, {steps} now; "
            f"put them back, or delete '{checkpoints.directory}' to train from the start"
        )


def _what_went_wrong(
    verdict: Verdict, model: nn.Module, images: torch.Tensor, epoch: int, checkpoints: Checkpoints | None
) -> str:
    layer = first_bad_layer(model, images)
    where = f"epoch {epoch}, step {verdict.bad_step}"
    return f"{verdict.reason} in {where}; first bad layer: {layer}; {_kept(checkpoints)}. {_ADVICE}"


def _kept(checkpoints: Checkpoints | None) -> str:
    saved = None if checkpoints is None else last_saved(checkpoints)
    return f"the state after {saved} is kept" if saved else "no state was saved"


def _leave(work: Work) -> None:
    """The judged weights into the model, which is left ready for use."""
    work.pruned.remove()
    if work.average is not None:
        work.model.load_state_dict(work.average.model.state_dict())
    work.model.eval()
