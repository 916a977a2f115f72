"""How long `ntksap --help` takes, as a whole process.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from common import interleave, save

COMMANDS = {"ntksap --help": ["--help"], "ntksap prune-train-export --help": ["prune-train-export", "--help"]}


def main() -> None:
    calls = {
        name: lambda flags=flags: subprocess.run(
            [sys.executable, "-m", "ntksap_export.cli", *flags], stdout=subprocess.DEVNULL, check=True
        )
        for name, flags in COMMANDS.items()
    }
    times = interleave(calls, runs=15)
    lines = [
        f"{name:<34} median {statistics.median(values):.3f} s, n = {len(values)}" for name, values in times.items()
    ]
    save("startup", [{"command": name, "times_s": values} for name, values in times.items()], "\n".join(lines))


if __name__ == "__main__":
    main()
