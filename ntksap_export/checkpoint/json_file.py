"""JSON beside weights: indexes of shards, and what describes a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import first_line, shown

_LARGEST: Final = 2**28  # bytes; an index of a million tensors has 2**27


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object out of a file.

    Raises:
        CheckpointError: it is missing, too large for what it should be, or no JSON object; without the file's name.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"is larger than {_LARGEST} bytes; is it JSON?")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError((error.strerror or str(error)).lower()) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"is not JSON: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"must hold a JSON object; got {shown(value)}")
    return value
