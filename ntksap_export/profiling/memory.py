"""Memory of this process, from the kernel's own books."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def rss_bytes() -> int:
    """Resident set size now (VmRSS)."""
    return _field("VmRSS")


def peak_rss_bytes() -> int:
    """Highest resident set size since `reset_peak` (VmHWM).

    ru_maxrss is not used: a child started by vfork and exec inherits its parent's mark there.
    """
    return _field("VmHWM")


def reset_peak() -> bool:
    """Lower the mark to the current size; False where the kernel does not allow it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _field(name: str) -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
