"""All that is random about the images of an epoch, drawn before it begins and done batch by batch on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ntksap_export.data.augment import Moves, cut_out_, draw_holes, draw_moves, generator, move
from ntksap_export.data.augmentation import Augmentation
from ntksap_export.data.recut import Boxes, draw_boxes, recut


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What happens to the images of an epoch, by their place in its order.

    Attributes:
        moves: of "shift" and "crop-flip".
        boxes: of "resized-crop" where decoded images are cut.
        holes: centres of the cutouts.
        cutout: their side in pixels.
    """

    moves: Moves | None
    boxes: Boxes | None
    holes: torch.Tensor | None
    cutout: int

    def apply(self, images: torch.Tensor, places: slice) -> torch.Tensor:
        """Move or cut the images at these places; bytes stay bytes where nothing lies between pixels."""
        if self.moves is not None:
            return move(images, self.moves.part(places))
        return images if self.boxes is None else recut(images, self.boxes.part(places))

    def finish_(self, images: torch.Tensor, places: slice) -> None:
        """Do what is done to normalized images: the cutout."""
        if self.holes is not None:
            cut_out_(images, self.holes[places], self.cutout)


def draw(asked: Augmentation, decoded: bool, count: int, size: int, key: str, device: torch.device) -> Draws:
    """Draw for an epoch; the draws depend on `key` and on nothing else.

    Args:
        asked: what images go through.
        decoded: whether "resized-crop" is made here, of decoded images; else it was made while they were decoded.
        count: places in the epoch.
        size: side of the images in pixels.
        key: of seed and epoch.
        device: where the draws are wanted.
    """
    boxes = None
    if asked.kind == "resized-crop" and decoded:
        boxes = draw_boxes(count, size, asked.crop_scale, asked.crop_ratio, f"{key}/boxes", device)
    holes = draw_holes(count, size, f"{key}/holes", device) if asked.cutout else None
    return Draws(draw_moves(asked.kind, count, size, f"{key}/moves", device), boxes, holes, asked.cutout)


def draw_order(count: int, repeats: int, key: str) -> torch.Tensor:
    """Positions of the images of a training epoch, int64 (count,); each drawn one stands `repeats` times in a row."""
    order = torch.randperm(count, generator=generator(f"{key}/order"))
    if repeats == 1:
        return order
    return order[: -(-count // repeats)].repeat_interleave(repeats)[:count]
