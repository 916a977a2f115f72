"""Damaged plans for the engine's library, in a process of its own: it may refuse them, it may not die of them.

    python -m tests.engine.fuzz_plans LIBRARY SEED COUNT [FOLDER OF FURTHER PLANS]

Plans are cut, and words and bytes of them are changed; each stands at the end of a page behind which nothing may be
read. Those that are not refused are run, with a margin around their outputs that nothing may be written to. Prints how
many were refused and run, as JSON; any other end is a failure.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import resource
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ntksap_export.engine.library import _load
from tests.engine.raw_plans import TINY, every_kind

MARGIN = 64  # floats around an output
SENTINEL = np.float32(1234.5)
LARGEST = 1 << 20  # numbers in a tensor of a plan that is given to the library
NUMBERS = (0, 1, 2, 3, 4, 7, 16, 64, 255, 65535, 65536, 1 << 20, 1 << 28, 1 << 31, 0xFFFFFFFE, 0xFFFFFFFF)
PAGE = mmap.PAGESIZE


class Guarded:
    """Memory whose last byte is followed by a page that cannot be read."""

    def __init__(self, size: int) -> None:
        pages = -(-size // PAGE) * PAGE
        self._map = mmap.mmap(-1, pages + PAGE)
        self._end = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + pages
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(self._end), PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")

    def put(self, data: bytes) -> int:
        """The address of `data`, which end where the memory ends."""
        ctypes.memmove(self._end - len(data), data, len(data))
        return self._end - len(data)


def word(data: bytes, chance: random.Random) -> bytes:
    at = 4 * chance.randrange(len(data) // 4)
    return data[:at] + struct.pack("<I", chance.choice(NUMBERS)) + data[at + 4 :]


def nudge(data: bytes, chance: random.Random) -> bytes:
    at = 4 * chance.randrange(len(data) // 4)
    number = struct.unpack_from("<I", data, at)[0] + chance.choice((-64, -4, -1, 1, 4, 64))
    return data[:at] + struct.pack("<I", number & 0xFFFFFFFF) + data[at + 4 :]


def byte(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def swap(data: bytes, chance: random.Random) -> bytes:
    words = bytearray(data)
    a, b = (4 * chance.randrange(len(data) // 4) for _ in range(2))
    words[a : a + 4], words[b : b + 4] = data[b : b + 4], data[a : a + 4]
    return bytes(words)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def grow(data: bytes, chance: random.Random) -> bytes:
    return data + bytes(chance.choice((1, 4, 64)))


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (word, word, nudge, nudge, nudge, byte, swap, cut, grow)


def too_large(data: bytes) -> bool:
    """Whether the plan may be sound and need more memory than this test is to take."""
    count = struct.unpack_from("<I", data, 12)[0] if len(data) >= 64 else 0
    rows = [struct.unpack_from("<3I", data, 64 + 16 * i) for i in range(min(count, (len(data) - 64) // 16))]
    sound = all(c <= 1 << 20 and max(h, w) <= 1 << 14 and c * h * w <= 1 << 28 for c, h, w in rows)
    return sound and any(c * h * w > LARGEST for c, h, w in rows)


class Target:
    """The library: creates, runs, destroys."""

    def __init__(self, library: Path) -> None:
        self.library = _load(library)
        self.reason = ctypes.create_string_buffer(256)

    def answer(self, address: int, size: int) -> str:
        plan = ctypes.c_void_p()
        code = self.library.ntksap_create(address, size, ctypes.byref(plan), self.reason, len(self.reason))
        if code != 0:
            said = self.reason.value.decode()
            if code not in (1, 2) or not said or "\n" in said:
                raise AssertionError(f"code {code}, reason {said!r}")
            return "refused" if code == 1 else "too large"
        ran = all(self.run(plan, batch) for batch in (1, 2, 9))
        self.library.ntksap_destroy(plan)
        return "run" if ran else "too large"

    def run(self, plan: ctypes.c_void_p, batch: int) -> bool:
        inputs = [np.ones(batch * size, np.float32) for size in self.sizes(plan, 0)]
        outputs = [np.full(batch * size + 2 * MARGIN, SENTINEL) for size in self.sizes(plan, 1)]
        places = [array.ctypes.data + 4 * MARGIN for array in outputs]
        given, wanted = (
            (ctypes.c_void_p * len(addresses))(*addresses)
            for addresses in ([array.ctypes.data for array in inputs], places)
        )
        code = self.library.ntksap_run(plan, given, wanted, batch, 1 + batch % 2, self.reason, len(self.reason))
        if code not in (0, 2):
            raise AssertionError(f"a plan that was made did not run: {self.reason.value.decode()}")
        for array in outputs:
            if not (array[:MARGIN] == SENTINEL).all() or not (array[-MARGIN:] == SENTINEL).all():
                raise AssertionError("written outside an output")
        return code == 0

    def sizes(self, plan: ctypes.c_void_p, is_output: int) -> list[int]:
        counts, shape = (ctypes.c_uint32 * 2)(), (ctypes.c_uint32 * 4)()
        first = ctypes.cast(counts, ctypes.POINTER(ctypes.c_uint32))
        second = ctypes.cast(ctypes.addressof(counts) + 4, ctypes.POINTER(ctypes.c_uint32))
        self.library.ntksap_plan_io(plan, first, second)
        sizes = []
        for index in range(counts[is_output]):
            self.library.ntksap_plan_tensor(plan, is_output, index, shape)
            sizes.append(shape[0] * shape[1] * shape[2])
        return sizes


def main() -> None:
    library, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target, chance = Target(library), random.Random(seed)
    files = sorted(file for folder in sys.argv[4:] for file in Path(folder).iterdir())
    plans, answers = [TINY, every_kind()[0], *(file.read_bytes() for file in files)], Counter[str]()
    memory = Guarded(max(map(len, plans)) + 64)
    for number in range(count):
        data = plans[number % len(plans)]
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3)) if number >= len(plans) else 0):
            data = chance.choice(DAMAGES)(data, chance) if len(data) >= 8 else data
        answers["skipped" if too_large(data) else target.answer(memory.put(data), len(data))] += 1
    print(json.dumps(answers))
    sys.stdout.flush()
    os._exit(0)  # the guard page would be in the way of the interpreter's own end


if __name__ == "__main__":
    main()
