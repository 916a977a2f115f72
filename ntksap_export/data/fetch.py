"""`--download`: a named data set through torchvision, which knows where its files lie and what they must hash to."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from pathlib import Path

from ntksap_export.data.table import Description
from ntksap_export.errors import ConfigError, DataError
from ntksap_export.optional import load_torchvision


def fetch(name: str, description: Description, root: Path) -> None:
    """Download a data set; what is there already, whole, is left as it is.

    Args:
        name: of the data set.
        description: of the data set.
        root: the folder of all data sets; created. Of several processes on one machine one downloads, the others wait.

    Raises:
        ConfigError: torchvision cannot fetch this one.
        UnavailableError: torchvision is not installed.
        DataError: the download failed.
    """
    if description.fetch is None:
        raise ConfigError(
            f"--download cannot fetch {name}; get it from {description.home} and put {description.layout} in '{root}'"
        )
    data_set = getattr(load_torchvision("datasets"), description.fetch)
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                data_set(str(root), train=True, download=True)
        except Exception as error:  # of the network, of the archive, of torchvision
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{name} could not be downloaded: {reason}; try again, or get it from {description.home} and put "
                f"{description.layout} in '{root}'"
            ) from error
