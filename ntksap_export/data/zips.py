"""Images inside a .zip, read in place."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ntksap_export.data.files import Labels
from ntksap_export.errors import DataError

_LIMIT_BYTES: Final = 100_000_000  # of one member, packed or not
_HEADER: Final = struct.Struct("<4s22xHH")  # of a member; at its end the lengths of its name and its extra fields


@dataclass(frozen=True, slots=True, eq=False)
class ZipFiles:
    """Images that are members of a zip file, stored or deflated.

    Args:
        path: the zip file.
        names: member name of each image.
        places: int64 (images, 5): offset of the member's header, packed and real size in bytes, method, CRC-32.
        labels: one per image.
    """

    path: Path
    names: tuple[str, ...]
    places: npt.NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """The bytes of the member at position `index`."""
        offset, packed, size, method, checksum = self.places[index].tolist()
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            magic, name, extra = _HEADER.unpack(file.read(_HEADER.size))
            if magic != b"PK\3\4":
                raise ValueError("the zip file changed or is damaged here")
            file.seek(name + extra, 1)
            content = bytes(file.read(packed))
        if method == zipfile.ZIP_DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size)
        if len(content) != size or zlib.crc32(content) != checksum:
            raise ValueError("its bytes in the zip file are damaged")
        return content

    def where(self, index: int) -> str:
        """The zip file and the name in it."""
        return f"{self.path}: {self.names[index]}"


def list_zip(path: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Each file in a zip file and its row of `ZipFiles.places`.

    Raises:
        DataError: it is no zip file, or holds what is not read: encrypted, very large or packed in a rare way.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, struct.error, ValueError) as error:
        raise DataError(f"'{path}' is truncated or no zip file ({error}); fetch it again") from error
    for member in members:
        odd = member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if odd or max(member.file_size, member.compress_size) > _LIMIT_BYTES:
            raise DataError(f"'{path}: {member.filename}' is encrypted, very large or packed in a rare way; unpack it")
    return {
        member.filename: (
            member.header_offset,
            member.compress_size,
            member.file_size,
            member.compress_type,
            member.CRC,
        )
        for member in members
    }
