"""Large data sets: images decoded when they are needed, by torch's worker processes."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import torch
from torch.utils.data import DataLoader, Dataset

from ntksap_export.data.broken import none_left, substitutes
from ntksap_export.data.crops import Crops
from ntksap_export.data.files import Files
from ntksap_export.data.images import Pixels, decode, fit
from ntksap_export.data.shards import ShardFiles
from ntksap_export.errors import DataError

_MARGIN: Final = 256 / 224  # validation: the shorter side becomes size * 256/224 before the central crop

Batch = tuple[torch.Tensor, torch.Tensor]
Draw = tuple[int, int]  # position of an image, and how often the epoch had it before
_Found = list[tuple[int, str]]  # positions of broken images, and what is wrong with them
_Outcome = tuple[torch.Tensor, torch.Tensor, _Found] | str


@dataclass(frozen=True, slots=True)
class _Work:
    """One batch to be decoded."""

    draws: Sequence[Draw]
    crops: Crops | None


@dataclass(frozen=True, slots=True, eq=False)
class StreamSource:
    """Images that stay where they lie.

    Args:
        files: where.
        image_size: side S in pixels of what comes out.
        workers: processes that decode, and stay from one pass to the next; 0 decodes in this one.
        skip: whether a broken image is replaced by another of its class, see `broken`; else it is an error.
    """

    files: Files
    image_size: int
    workers: int = 0
    skip: bool = False
    _found: dict[int, str] = field(default_factory=dict, repr=False)
    _pool: _Pool = field(default_factory=lambda: _Pool(), repr=False)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> torch.Tensor:
        """int64 (N,), 0 to k-1."""
        return torch.from_numpy(self.files.labels)

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was wrong with each image that was replaced so far, by position."""
        return tuple(message for _, message in sorted(self._found.items()))

    def take(self, indices: list[int]) -> torch.Tensor:
        """The images at these positions, without augmentation: uint8 (n, 3, S, S).

        Raises:
            DataError: one cannot be decoded.
        """
        return self._unpack(self._decoder.batch(_Work([(index, 0) for index in indices], None)))[0]

    def batches(self, plan: Sequence[Sequence[Draw]], crops: Crops | None, pin_memory: bool) -> Iterator[Batch]:
        """The images and labels of each batch of `plan`, in its order: uint8 (n, 3, S, S) and int64 (n,).

        Args:
            plan: of each batch the position of each image, and how often the epoch had it before.
            crops: None takes the central square; else random parts, which depend on its key, the position and the
                turn alone, not on workers or order.
            pin_memory: whether batches lie in page-locked memory, for a CUDA device.

        Raises:
            DataError: an image cannot be decoded, or a worker died.
        """
        work = [_Work(draws, crops) for draws in plan]
        with closing(self._pool.run(self._decoder, work, self.workers, pin_memory)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, str):
                    error = DataError(outcome)
                    break
                yield self._unpack(outcome)
            else:
                return
        self.close()  # now, in order: found by the garbage collector, they would be waited for in vain
        raise error

    def close(self) -> None:
        """End the worker processes; the next pass starts new ones."""
        self._pool.close()

    @property
    def _decoder(self) -> _Decoder:
        return _Decoder(self.files, self.image_size, self.skip)

    def _unpack(self, outcome: _Outcome) -> Batch:
        if isinstance(outcome, str):
            raise DataError(outcome)
        images, labels, found = outcome
        self._found.update(found)
        return images, labels


class _Decoder(Dataset[_Outcome]):
    """Decodes batches, here or in a worker; an error is its message, for it would leave a worker as a traceback."""

    def __init__(self, files: Files, size: int, skip: bool) -> None:
        self._files = files
        self._size = size
        self._skip = skip

    def __getitems__(self, work: _Work) -> _Outcome:
        return self.batch(work)

    def batch(self, work: _Work) -> _Outcome:
        """Images (n, 3, S, S) as channels_last, labels (n,), and which were replaced."""
        images = torch.empty((len(work.draws), self._size, self._size, 3), dtype=torch.uint8)
        pixels: Pixels = images.numpy()
        indices = [index for index, _ in work.draws]
        if isinstance(self._files, ShardFiles):
            self._files.announce(indices)
        found: _Found = []
        try:
            for place in sorted(range(len(indices)), key=indices.__getitem__):  # as they lie in their files
                pixels[place] = self._one(*work.draws[place], work.crops, found)
        except DataError as error:
            return str(error)
        return images.permute(0, 3, 1, 2), torch.from_numpy(self._files.labels[indices]), found

    def _one(self, index: int, turn: int, crops: Crops | None, found: _Found) -> Pixels:
        try:
            return self._decode(index, index, turn, crops)
        except DataError as error:
            if not self._skip:
                raise
            message = str(error)
        found.append((index, message))
        for other in substitutes(self._files.labels, index):
            try:
                return self._decode(other, index, turn, crops)
            except DataError as error:
                found.append((other, str(error)))
        raise none_left(int(self._files.labels[index]), message)

    def _decode(self, index: int, drawn_for: int, turn: int, crops: Crops | None) -> Pixels:
        if crops is None:
            return fit(decode(self._files, index), self._size, _MARGIN)
        return crops.cut(self._files, index, self._size, crops.random(drawn_for, turn))


class _Feed:
    """What the workers of a pool are to do in the next pass."""

    def __init__(self) -> None:
        self.work: list[_Work] = []

    def __iter__(self) -> Iterator[_Work]:
        return iter(self.work)


class _Pool:
    """The worker processes of a source, kept from one pass to the next."""

    def __init__(self) -> None:
        self._feed = _Feed()
        self._loader: DataLoader[_Outcome] | None = None
        self._busy = False

    def run(
        self, decoder: _Decoder, work: list[_Work], workers: int, pin_memory: bool
    ) -> Generator[_Outcome, None, None]:
        """The outcome of each piece of work, in order; a pass beside one that is under way has workers of its own."""
        if workers == 0:
            for item in work:
                outcome = decoder.batch(item)
                yield _pinned(outcome) if pin_memory else outcome
        elif self._busy:
            yield from _Pool().run(decoder, work, workers, pin_memory)
        elif work:
            self._busy = True
            try:
                yield from self._pass(decoder, work, workers, pin_memory)
            finally:
                self._busy = False

    def _pass(self, decoder: _Decoder, work: list[_Work], workers: int, pin_memory: bool) -> Iterator[_Outcome]:
        self._feed.work = work
        try:
            with warnings.catch_warnings():
                # More workers than CPUs are what was asked for.
                warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
                if self._loader is None:
                    self._loader = self._make(decoder, workers, pin_memory)
                outcomes = iter(self._loader)
            yield from outcomes
        except RuntimeError as error:
            self.close()
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a process that decodes images died ({' '.join(str(error).split())[:120]}); is memory or /dev/shm "
                "full? Use fewer --workers"
            ) from error

    def _make(self, decoder: _Decoder, workers: int, pin_memory: bool) -> DataLoader[_Outcome]:
        return DataLoader(
            decoder,
            batch_sampler=self._feed,  # type: ignore[arg-type]  # an item is the work of one batch
            num_workers=workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # it is collated
            pin_memory=pin_memory,
            persistent_workers=True,
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator().manual_seed(0),  # else the caller's random state is drawn from
        )

    def close(self) -> None:
        """End the processes."""
        self._loader = None


def _leave_signals_to_the_parent(_: int) -> None:
    """A signal to the whole group, as schedulers and terminals send it: the parent decides, and ends the workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(outcome: _Outcome) -> _Outcome:
    return outcome


def _pinned(outcome: _Outcome) -> _Outcome:
    return outcome if isinstance(outcome, str) else (outcome[0].pin_memory(), outcome[1].pin_memory(), outcome[2])
