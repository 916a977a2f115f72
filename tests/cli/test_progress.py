"""How long work shows itself: bars on a terminal, lines elsewhere, nothing if asked so; how much time is left."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ntksap_export.cli import bars, console, pace
from ntksap_export.cli.options import as_typed
from ntksap_export.progress import Progress, Silent, StepNote
from tests.conftest import SMALL_FLAGS

Call = Callable[..., tuple[int, str, str]]
NOTE = StepNote(loss=1.23456, accuracy=0.5, images_per_s=3210.4, lr=0.08764)
NOTE_TEXT = "loss 1.235, accuracy 50.0%, 3,210 images/s, lr 0.0876"


class Clock:
    """Time that passes only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        for module in (bars, console, pace):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def never() -> str:
    raise AssertionError("asked for a note that is not shown")


def drawn() -> tuple[io.StringIO, bars.Bars]:
    text = io.StringIO()
    return text, bars.Bars(Console(file=text, force_terminal=True, width=80, color_system=None))


def test_a_note_is_one_short_line() -> None:
    assert NOTE_TEXT == str(NOTE)


def test_time_left_follows_the_steps_so_far(clock: Clock) -> None:
    work = pace.Pace("prune", 10)
    before = work.left_s()
    clock.now += 6
    work.advance(3)
    at_step = work.left_s()
    clock.now += 1

    assert (None, 14.0, 13.0) == (before, at_step, work.left_s())


def test_time_left_knows_the_steps_of_a_task_inside_and_not_those_of_an_earlier_run(clock: Clock) -> None:
    epochs = pace.Pace("train", 20, done=10)
    steps = pace.Pace("epoch 11/20", 4, outer=epochs)
    clock.now += 5
    steps.advance(2)  # half an epoch in 5 s: another half, and nine whole ones

    assert (5.0, 95.0) == (steps.left_s(), epochs.left_s())
    assert "0:00:05 left, 0:01:35 left in all" == steps.left_text()
    epochs.advance(1)
    assert 45.0 == epochs.left_s()


def test_the_end_is_never_in_the_past(clock: Clock) -> None:
    work = pace.Pace("export", 2)
    clock.now += 1
    work.advance(1)
    clock.now += 60

    assert 0.0 == work.left_s()


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, ""), (0.4, "0:00:00!"), (59.6, "0:01:00!"), (86_399, "23:59:59!")]
)
def test_clock(seconds: float | None, expected: str) -> None:
    assert expected == pace.clock(seconds, "!")


def train_two_epochs(progress: Progress, clock: Clock, step_s: float) -> None:
    with progress.task("train", 2) as epochs:
        for epoch in (1, 2):
            with progress.task(f"epoch {epoch}/2", 4) as steps:
                for _ in range(4):
                    clock.now += step_s
                    steps.advance(note=lambda: NOTE)
            progress.say(f"epoch {epoch} is done")
            epochs.advance()


def test_lines_come_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    train_two_epochs(console.Lines(), clock, 4.0)

    assert [
        f"  epoch 1/2: 75%, {NOTE_TEXT}, 0:00:04 left, 0:00:20 left in all",
        "epoch 1 is done",
        f"  epoch 2/2: 50%, {NOTE_TEXT}, 0:00:08 left, 0:00:08 left in all",
        "epoch 2 is done",
    ] == capsys.readouterr().err.splitlines()


def test_lines_ask_for_a_note_only_to_show_it(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.Lines().task("prune", 3) as task:
        clock.now += 9
        task.advance(note=never)
        clock.now += 1
        task.advance(note="density 0.5")
        clock.now += 60
        task.advance(note=never)

    assert "  prune: 67%, density 0.5, 0:00:05 left\n" == capsys.readouterr().err


def test_bars_show_epochs_steps_and_a_note_in_eighty_columns() -> None:
    text, shown = drawn()

    with shown.task("train", 30, done=2), shown.task("epoch 3/30", 391) as steps:
        steps.advance(45, NOTE)
        display = shown._bars
        assert display is not None
        plain = Console(file=io.StringIO(), width=80)
        with plain.capture() as captured:
            plain.print(*display.get_renderables(), sep="\n")
    rows = [line.rstrip() for line in captured.get().splitlines() if line.strip()]

    assert 3 == len(rows), rows
    assert rows[0].startswith("train ")
    assert " 2/30 " in rows[0]
    assert rows[1].startswith("epoch 3/30 ")
    assert " 45/391 " in rows[1]
    assert rows[0].endswith(" left")
    assert rows[1].endswith(" left")
    assert f"  {NOTE_TEXT}" == rows[2]
    assert shown._bars is None
    assert text.getvalue().endswith("\x1b[2K\x1b[?25h\r")  # the display cleared what it had drawn


def test_messages_stand_above_the_bars_as_they_are() -> None:
    text, shown = drawn()

    with shown.task("train", 2):
        shown.say("left whole: [bold]conv1[/bold]")

    assert "left whole: [bold]conv1[/bold]\n" in text.getvalue()


def test_bars_ask_for_a_note_a_few_times_a_second(clock: Clock) -> None:
    _, shown = drawn()
    asked: list[float] = []

    def note() -> str:
        asked.append(clock.now)
        return "loss 1"

    with shown.task("epoch", 10) as task:
        for _ in range(10):
            task.advance(note=note)
            clock.now += 0.125

    assert [1000.0, 1000.25, 1000.5, 1000.75, 1001.0] == asked


def test_a_task_that_fails_leaves_the_one_around_it() -> None:
    _, shown = drawn()

    with shown.task("train", 2) as epochs:
        with pytest.raises(ValueError, match="bad"), shown.task("epoch 1/2", 4):
            raise ValueError("bad")
        epochs.advance()
        assert ["train"] == [task.description for task in shown._bars.tasks]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"), [(True, True, Silent), (False, True, bars.Bars), (False, False, console.Lines)]
)
def test_who_shows(quiet: bool, terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)

    assert kind is type(console.make_progress(quiet))


def test_silence_asks_for_no_note() -> None:
    with Silent().task("train", 2, done=1) as task:
        task.advance(note=never)


def test_a_quiet_road_says_nothing_but_its_result(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ntksap_export.cli", "--quiet", "prune-train-export", "resnet20"]
    flags = [*SMALL_FLAGS, "--epochs", "1", "--rounds", "1", "--threads", "1", "--json"]

    ended = subprocess.run(
        [*command, *flags, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    assert 27_090 == json.loads(ended.stdout)["kept"]


@pytest.mark.parametrize("verb", ["train", pytest.param("export", marks=pytest.mark.slow), "report"])
def test_quiet_before_the_verb_and_after_it(ntksap: Call, finished_run: Path, verb: str) -> None:
    told = ntksap(verb, finished_run)
    before, after, short = (
        ntksap("--quiet", verb, finished_run),
        ntksap(verb, finished_run, "--quiet"),
        ntksap(verb, finished_run, "-q"),
    )

    assert told[2] != ""
    assert (0, told[1], "") == before == after == short


def test_a_quiet_refusal_is_still_said(ntksap: Call, tmp_path: Path) -> None:
    code, _, err = ntksap("--quiet", "prune", "resnet20", "--sparsity", "95", "--out", tmp_path / "out")

    assert 2 == code
    assert err.startswith("error: sparsity must be in [0, 1)")


def test_quiet_is_no_part_of_the_command_that_a_report_repeats() -> None:
    assert "ntksap prune-train-export resnet20" == as_typed(
        ["-q", "prune-train-export", "resnet20", "--json", "--quiet"]
    )
