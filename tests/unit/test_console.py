"""What a person sees, in a real pseudo-terminal of 80 columns and without one."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from dataclasses import dataclass, field

import pytest

from grpo.console import Console, results_table


@dataclass(frozen=True)
class Evaluation:
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    num_problems: int = 128
    num_samples: int = 16


def evaluation(pass_at_1: float, **sizes: int) -> Evaluation:
    values = {
        "pass@1": pass_at_1,
        "pass@4": 0.5,
        "pass@16": 0.75,
        "maj@4": 0.5,
        "maj@16": 0.625,
        "mean_length": 30.26,
        "reasons": 0.25,
        "accuracy_given_reasoning": 0.875,
        "clipped": 0.0,
    }
    return Evaluation(values, {"pass@1": (pass_at_1 - 0.05, pass_at_1 + 0.05)}, **sizes)


def step_values(reward: float) -> dict[str, float]:
    return {"reward": reward, "completions/mean_length": 31.4, "step_time": 1.42, "loss": 0.1}


def plain(total_steps: int, **options: int) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(total_steps, file=file, **options), file


def test_a_run_that_learns_nothing_is_told_once():
    console, file = plain(40)
    for step in range(1, 21):
        console.log(step, step_values(0.0) | {"groups/trained": 0.0})
    assert file.getvalue().count("nothing was learned so far (5 steps)") == 1


def test_a_run_that_learned_once_is_not_told_so():
    console, file = plain(40)
    for step in range(1, 21):
        console.log(step, step_values(0.0) | {"groups/trained": float(step == 2)})
    assert "nothing was learned" not in file.getvalue()


def test_without_a_terminal_one_line_every_so_many_steps():
    console, file = plain(40)
    for step in range(1, 41):
        console.log(step, step_values(step / 40))
    lines = file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/40", *(f"{step}/40" for step in range(2, 41, 2))]
    assert lines[0] == "step 1/40  reward 0.03  length 31  1.42 s/step"
    assert lines[-1] == "step 40/40  reward 1.00  length 31  1.42 s/step"
    assert re.fullmatch(r"step 20/40  reward 0\.50  length 31  1\.42 s/step  0:00 left", lines[10])


def test_the_number_of_steps_per_line_can_be_set():
    console, file = plain(10, every=5)
    for step in range(1, 11):
        console.log(step, step_values(0.5))
    assert [line.split()[1] for line in file.getvalue().splitlines()] == ["1/10", "5/10", "10/10"]


def test_an_evaluation_is_shown_at_once_and_then_remembered():
    console, file = plain(10, every=5)
    console.log(0, {"val-core/openai/gsm8k/acc/mean@16": 0.25, "val-core/openai/gsm8k/acc/best@16": 0.9})
    console.log(3, {"val-core/openai/gsm8k/acc/mean@16": 0.5, "val-core/math/acc/mean@16": 0.25})
    console.log(5, step_values(0.5))
    assert [line.strip() for line in file.getvalue().splitlines()] == [
        "step 0/10  pass@1 0.25",
        "step 3/10  pass@1 0.38",
        "step 5/10  reward 0.50  pass@1 0.38  length 31  1.42 s/step",
    ]


def test_timings_or_losses_alone_print_nothing():
    console, file = plain(1)
    console.log(1, {"time/checkpoint_s": 0.5, "loss": 0.1})
    assert file.getvalue() == ""


def test_time_left_follows_the_pace(monkeypatch):
    clock = iter(range(0, 100_000, 100))
    monkeypatch.setattr("grpo.console.pace.time.monotonic", lambda: next(clock) + 0.0)
    console, file = plain(100, every=1)
    console.log(1, step_values(0))  # at 0 s
    console.log(2, step_values(0))  # at 100 s; 98 steps of 100 s, and the clock reads 100 s more when asked
    assert file.getvalue().splitlines()[1].endswith("2:41:40 left")


def test_long_messages_are_not_broken_without_a_terminal():
    console, file = plain(1)
    console.say("word " * 60)
    assert file.getvalue() == "word " * 60 + "\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[bold]kept[/bold] [red", "[bold]kept[/bold] [red"),
        ("a\x1b[2Jb\rc\x07", "a\ufffd[2Jb\ufffdc\ufffd"),
        ("<think>\n\t漢 é</think>", "<think>\n        漢 é</think>"),
    ],
)
def test_text_that_a_model_wrote_is_only_text(text, shown):
    console, file = plain(1)
    console.say(text)
    assert file.getvalue() == shown + "\n"


def test_a_stream_that_knows_only_ascii():
    binary = io.BytesIO()
    console = Console(1, file=io.TextIOWrapper(binary, encoding="ascii"))
    console.say("漢 \ud800")
    console.summary(evaluation(0.25), evaluation(0.75), "runs/a")
    console.close()
    text = binary.getvalue().decode("ascii")
    assert text.startswith("? ?\n")
    assert "0.750 [0.700, 0.800]" in text


def cells(text: str) -> list[list[str]]:
    rows = [line.strip("│┃ ") for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in re.split("[│┃]", row)] for row in rows]


def test_the_closing_table():
    console, file = plain(1)
    console.summary(evaluation(0.25), evaluation(0.75), "runs/quickstart")
    text = file.getvalue()
    assert cells(text) == [
        ["held-out problems", "before", "after"],
        ["pass@1", "0.250 [0.200, 0.300]", "0.750 [0.700, 0.800]"],
        ["pass@16", "0.750", "0.750"],
        ["maj@16", "0.625", "0.625"],
        ["mean answer length", "30.3", "30.3"],
        ["share that reasons", "0.250", "0.250"],
        ["accuracy given reasoning", "0.875", "0.875"],
    ]
    assert text.startswith("128 problems x 16 answers; 95% intervals\n")
    assert text.endswith("run folder: runs/quickstart\n")
    assert max(map(len, text.splitlines())) <= 80


def test_the_closing_table_without_a_before():
    console, file = plain(1)
    console.summary(None, evaluation(0.75), "runs/quickstart")
    assert cells(file.getvalue())[:2] == [["held-out problems", "held out"], ["pass@1", "0.750 [0.700, 0.800]"]]


def test_what_was_not_measured_is_a_dash():
    before = Evaluation({"accuracy_given_reasoning": float("nan")})
    console, file = plain(1)
    console.summary(before, evaluation(0.75), "runs/a")
    rows = {row[0]: row[1:] for row in cells(file.getvalue())}
    assert rows["pass@1"] == ["-", "0.750 [0.700, 0.800]"]
    assert rows["accuracy given reasoning"] == ["-", "0.875"]


def test_one_answer_a_problem_has_no_second_row_for_pass_at_1():
    labels = results_table(None, Evaluation({"pass@1": 0.5, "maj@1": 0.5}, num_samples=1)).columns[0].cells
    assert list(labels) == ["pass@1", "maj@1"]


def test_evaluations_of_different_sizes_are_told_apart():
    title = results_table(evaluation(0.25, num_samples=64), evaluation(0.75)).title
    assert title == "128 problems x 64 answers, then 128 problems x 16 answers; 95% intervals"


RUN = """
    from pathlib import Path
    from grpo.console import Console
    console = Console(2000, first_step=1990)
    console.log(1990, {"val-core/a/acc/mean@4": 0.4})
    for step in range(1991, 2001):
        values = {"reward": -0.125, "completions/mean_length": 1310.0, "step_time": 123.4}
        console.log(step, values)
        if step == 1995:
            console.say("a message [x]")
            print("a print from elsewhere")
    console.close()
    console.close()
    print("the end")
"""


def in_terminal(script: str, *, columns: int, **environment: str) -> str:
    """Everything a program writes to a pseudo-terminal of its own."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", textwrap.dedent(script)]
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    env |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env) as process:
        os.close(follower)
        written = b""
        while chunk := read_some(leader):
            written += chunk
    os.close(leader)
    assert process.returncode == 0, written.decode()
    return written.decode()


def read_some(leader: int) -> bytes:
    try:
        return os.read(leader, 4096)
    except OSError:  # Linux says EIO when the other side has gone
        return b""


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_on_a_terminal_the_view_changes_in_place_and_one_line_of_it_stays():
    text = in_terminal(RUN, columns=80)
    frames = re.split(r"[\r\n]+", without_escapes(text))
    assert max(map(len, frames)) <= 80
    assert any(frame.startswith("step 1990/2000 ━") for frame in frames)
    assert any(frame.startswith("reward   -0.12 ▄") for frame in frames)
    assert text.count("\x1b[2K") >= 4  # erases its own lines
    *_, last, end, nothing = frames
    assert (last.strip(), end, nothing) == (
        "step 2000/2000  reward -0.12  pass@1 0.40  length 1310  123 s/step",
        "the end",
        "",
    )
    assert any(frame.endswith("a message [x]") for frame in frames)
    assert any(frame.endswith("a print from elsewhere") for frame in frames)


def test_the_cursor_comes_back():
    text = in_terminal(RUN, columns=80)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_narrower_than_the_numbers_does_not_wrap():
    frames = re.split(r"[\r\n]+", without_escapes(in_terminal(RUN, columns=50)))
    assert max(map(len, frames)) <= 50


def test_a_dumb_terminal_gets_plain_lines():
    text = in_terminal(RUN, columns=80, TERM="dumb")
    assert "\x1b" not in text
    assert "step 2000/2000  reward -0.12  pass@1 0.40  length 1310  123 s/step" in text


def test_an_evaluation_alone_has_no_bar():
    script = """
        from grpo.console import Console
        Console(0).say("only this")
    """
    assert in_terminal(script, columns=80).strip() == "only this"


def test_what_goes_on_before_the_first_step_is_said():
    console, file = plain(4)
    with console.busy("starting the engine"):
        pass
    console.log(1, step_values(0.5))
    with console.busy("evaluating on held-out problems"):
        pass
    assert [line.split("  ")[0] for line in file.getvalue().splitlines()] == ["starting the engine ...", "step 1/4"]


def test_on_a_terminal_what_goes_on_has_a_spinner_and_leaves_no_line():
    script = """
        from grpo.console import Console
        console = Console(3)
        with console.busy("starting the engine"):
            pass
        console.close()
        print("the end")
    """
    lines = [line for line in re.split(r"[\r\n]+", without_escapes(in_terminal(script, columns=80))) if line]
    assert lines == ["⠋ starting the engine 0 s", "the end"]


def test_quiet_leaves_warnings_and_the_closing_table():
    file = io.StringIO()
    console = Console(2, quiet=True, file=file)
    with console.busy("starting the engine"):
        console.note("resuming from step 1")
    console.log(1, step_values(0.5))
    console.log(2, {"val-core/a/acc/mean@4": 0.5})
    console.say("alarm")
    console.summary(None, evaluation(0.75), "runs/a")
    first, title, *_, last = file.getvalue().splitlines()
    assert (first, title, last) == ("alarm", "128 problems x 16 answers; 95% intervals", "run folder: runs/a")


class GoneTerminal(io.StringIO):
    """A terminal whose other side has hung up."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_has_gone_ends_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(2, file=GoneTerminal())
    with console.busy("starting the engine"):
        console.log(1, step_values(0.5))
    console.say("a message")
    console.summary(None, evaluation(0.75), "runs/a")
    console.close()


def test_a_pipe_that_was_closed_ends_nothing():
    read, write = os.pipe()
    os.close(read)
    file = os.fdopen(write, "w", buffering=1)
    console = Console(1, file=file)
    console.log(1, step_values(0.5))
    console.say("a message")
    with pytest.raises(BrokenPipeError):
        file.close()
