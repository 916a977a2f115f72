"""`ntksap`: assembles the verbs, and is the one place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import traceback

import typer

from ntksap_export.cli import options
from ntksap_export.cli.commands import (
    analyze,
    chain,
    convert,
    export,
    finetune,
    inspect,
    listing,
    optimize,
    profile,
    prune,
    report,
    sweep,
    train,
)
from ntksap_export.errors import (
    BUG_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    OS_ERROR_EXIT_CODE,
    TERMINATED_EXIT_CODE,
    ConfigError,
    NtksapError,
)
from ntksap_export.launch import launch

_PATIENCE_S = 5.0
_TOGETHER = (
    "prune",
    "train",
    "prune-train-export",
    "prune-finetune-export",
)  # verbs that several processes of torchrun walk together

app = typer.Typer(
    name="ntksap",
    help="Prune a network before it is trained, train it sparse, store it sparse, export it, measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("prune-train-export")(chain.prune_train_export)
app.command("prune-finetune-export")(finetune.prune_finetune_export)
app.command("prune")(prune.prune)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("optimize")(optimize.optimize)
app.command("profile")(profile.profile)
app.command("report")(report.report)
app.command("analyze")(analyze.analyze)
app.command("sweep")(sweep.sweep)
app.command("convert")(convert.convert)
app.command("inspect")(inspect.inspect)
app.command("list")(listing.list_)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"ntksap {version('ntksap-export')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(  # noqa: ARG001 - its callback does all
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
    quiet: options.Quiet = False,
) -> None:
    place, verb = launch(), context.invoked_subcommand
    if quiet and verb is not None:
        context.default_map = {verb: {"quiet": True}}  # where a verb has the flag, this is as if it were given there
    if place is not None and verb not in _TOGETHER:
        raise ConfigError(
            f"`ntksap {verb}` runs in one process, got {place.processes}; start it without torchrun "
            f"(on several run: {', '.join(_TOGETHER)})"
        )


def main() -> None:
    """Run `ntksap`; one line on stderr and an exit code for whatever is the user's to mend."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)  # typer ends on a KeyboardInterrupt without a word
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    if rank := _rank():
        _help_silently(rank)
    else:
        _run()


def _rank() -> int:
    """This process's rank; 0 also where the launch is wrong, which the verb will say."""
    try:
        place = launch()
    except ConfigError:
        return 0
    return 0 if place is None else place.rank


def _help_silently(rank: int) -> None:
    """Run as one of several processes that is not rank 0: say nothing, unless this one alone failed.

    What all find wrong, rank 0 says, and torchrun then ends the others while they wait here. Were they to end first,
    torchrun would end rank 0 before it has spoken. Who is still there after the wait has something to say.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            _run()
    except SystemExit as end:
        if end.code:
            time.sleep(_PATIENCE_S)
            for line in said.getvalue().splitlines():
                print(f"[rank {rank}] {line}", file=sys.stderr)
        raise


def _run() -> None:
    try:
        app()
    except NtksapError as error:
        _end(str(error), error.exit_code)
    except _Interrupted:
        _end("interrupted; the same command goes on from the last saved state or stage", INTERRUPTED_EXIT_CODE)
    except _Terminated:
        _end("stopped by SIGTERM; the same command goes on from what was saved", TERMINATED_EXIT_CODE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `ntksap ... | head` is no error
        sys.exit(0)
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        _end(
            f"cannot write or read{where}: {error.strerror or error}; free space or name another place",
            OS_ERROR_EXIT_CODE,
        )
    except Exception as error:
        traceback.print_exc()
        _end(f"this is a bug in ntksap ({type(error).__name__}); please report the lines above", BUG_EXIT_CODE)


class _Interrupted(BaseException):
    """Ctrl-C; no `except Exception` on the way takes it for an error."""


class _Terminated(BaseException):
    """SIGTERM outside training, which would have saved its state (`pipeline.training`)."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def _terminate(*_: object) -> None:
    raise _Terminated


def _end(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
