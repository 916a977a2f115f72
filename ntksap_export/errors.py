"""The errors a user can cause, each with the exit code the command line gives it.

    NtksapError                 1
    ├── ConfigError             2   a flag, a key or a value that cannot be used
    ├── DataError               3   a data set that cannot be used
    ├── CheckpointError         4   a file that is not what it should be, or does not fit
    ├── RunDirectoryError       4   an output directory that holds something else
    ├── ExportError             5   a graph that could not be made, or does not agree with the model
    ├── ScoreError              6   scores that are NaN or infinite
    ├── TrainingError           6   training that diverged
    ├── UnavailableError        7   a device or a library that is not here
    │   └── FallbackError       7   a runtime that took another provider, precision or thread count than asked
    └── Preempted             143   stopped by SIGTERM; the same command goes on

OSError (a full disk, a read-only directory) is 8, a limit of `profile --compare` that is not met 9, an interrupt 130; a
bug is 70 and shows its traceback.
Messages are one line: what was wrong, what was got, what to do.
"""


class NtksapError(Exception):
    """Base of all errors that are the user's to mend."""

    exit_code = 1


class ConfigError(NtksapError):
    """A flag, a key or a value that cannot be used."""

    exit_code = 2


class DataError(NtksapError):
    """A data set that is missing, broken or does not fit."""

    exit_code = 3


class CheckpointError(NtksapError):
    """A file that is truncated, foreign, or does not fit the model."""

    exit_code = 4


class RunDirectoryError(NtksapError):
    """An output directory that holds another run, or lacks what a stage needs."""

    exit_code = 4


class ExportError(NtksapError):
    """A graph that could not be made, or whose outputs differ from the model's."""

    exit_code = 5


class ScoreError(NtksapError):
    """A scorer that answered NaN or infinity."""

    exit_code = 6


class TrainingError(NtksapError):
    """Training that produced NaN or infinity."""

    exit_code = 6


class UnavailableError(NtksapError):
    """A device or an optional library that is not on this machine."""

    exit_code = 7


class FallbackError(UnavailableError):
    """A runtime that took something else than asked: `asked for X, got Y`."""

    def __init__(self, asked: str, got: str) -> None:
        super().__init__(f"asked for {asked}, {got}")


OS_ERROR_EXIT_CODE = 8
LIMIT_EXIT_CODE = 9
BUG_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130
TERMINATED_EXIT_CODE = 143  # 128 + SIGTERM, as a shell has it


class Preempted(NtksapError):
    """Stopped by SIGTERM with its work saved: the machine is wanted back, and the same command goes on."""

    exit_code = TERMINATED_EXIT_CODE
