"""The process that watches one network, or measures the machine: `python -m ntksap_export.profiling.layers_worker`.

    <- {"what": "machine", "threads": 1, "graphs": {...}, "precisions": ["fp32"]}
    <- {"what": "layers", "threads": 1, "backend": "onnxruntime", "batch": 1, "graph": "...", "seconds": 1.0, ...}
    -> {"answer": {...}} or {"error": "..."}

Nothing is imported before it is known what is asked: the machine's peak needs no torch.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from ntksap_export.errors import NtksapError
from ntksap_export.profiling.opening import pin


def main() -> None:
    """Answer one question."""
    spec = json.loads(sys.stdin.readline())
    with contextlib.redirect_stdout(sys.stderr):  # what somebody's network prints is no answer
        answer = _answer(spec)
    sys.stdout.write(json.dumps(answer) + "\n")


def _answer(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        pin(spec["threads"])
        if spec["what"] == "machine":
            from ntksap_export.profiling.roofline import measure_here

            return {"answer": measure_here(spec)}
        from ntksap_export.profiling.layers import watch_here

        return {"answer": watch_here(spec)}
    except NtksapError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "out of memory"}
    except Exception as error:  # runtimes' own exception classes have no common public base
        return {"error": f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]}


if __name__ == "__main__":
    main()
