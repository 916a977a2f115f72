"""Images that lie decoded in a file, as those of CIFAR and MNIST do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ntksap_export.data.files import Labels


@dataclass(frozen=True, slots=True, eq=False)
class ArrayFiles:
    """Decoded images, which read like encoded ones: as netpbm, a header of a few bytes and the pixels.

    Args:
        name: of the file or folder that they come from.
        pixels: uint8 (N, C, H, W), C being 1 (gray) or 3.
        labels: one per image.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """The image at position `index` as a PPM or PGM file."""
        channels, height, width = self.pixels.shape[1:]
        kind = b"P6" if channels == 3 else b"P5"
        content: bytes = self.pixels[index].transpose(1, 2, 0).tobytes()
        return b"%s %d %d 255\n" % (kind, width, height) + content

    def where(self, index: int) -> str:
        """Its file and its place there."""
        return f"{self.name}: image {index}"
