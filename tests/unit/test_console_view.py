"""The live view's lines: what they say, and that nothing makes them fail or grow beyond the terminal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from grpo.console.marks import ASCII, BLOCKS, Marks, cells_of, folded, marks_for, printable
from grpo.console.view import Answer, Curve, Snapshot, draw, seconds_by_part
from grpo.sparkline import sparkline

VIEW = Snapshot(
    total=90,
    step=45,
    values={
        "reward": 0.5,
        "pass@1": 0.75,
        "step_time": 1.42,
        "completions/mean_length": 24.4,
        "completions/clipped_ratio": 0.031,
        "off_policy/mean": 0.5,
        "off_policy/max": 1.0,
    },
    reward=(0.0, 0.25, 0.5),
    pass_at_1=(0.25, 0.75),
    seconds={"sample": 6.0, "learn": 3.0, "publish": 0.99, "other": 0.01},
    answer=Answer(question="1 + 1 =", text="<answer>2</answer>", status="correct", reward=1.0, num_tokens=7),
)


def lines(view: Snapshot, *, width: int = 60, height: int = 24, marks: Marks = BLOCKS) -> list[str]:
    return [line.plain for line in draw(view, marks, left="1:12 left", doing_s=3.2, width=width, height=height)]


def test_the_view_of_a_run():
    bar = "━" * 20 + "─" * 19
    assert lines(VIEW) == [
        f"step 45/90 {bar} 1:12 left",
        "reward    0.50 ▁▅█  0.00 to 0.50",
        "pass@1    0.75 ▁█  0.25 to 0.75",
        "time    1.42 s " + "█" * 27 + "▒" * 14 + "░" * 4,
        "█ sample 60%  ▒ learn 30%  ░ publish 10%  · other <1%",
        "length 24  cut off 3%  staleness 0.5, at most 1",
        "── newest answer: correct, reward 1.00, 7 tokens " + "─" * 11,
        "1 + 1 =",
        "<answer>2</answer>",
    ]


def test_without_unicode_it_is_ascii():
    assert all(line.isascii() for line in lines(VIEW, marks=marks_for("ascii")))
    assert lines(VIEW, marks=ASCII)[3] == "time    1.42 s " + "#" * 27 + "=" * 14 + "+" * 4


def test_before_the_first_step_only_what_goes_on():
    assert lines(Snapshot(total=90, doing="starting the engine")) == ["⠸ starting the engine 3 s"]


def test_a_low_terminal_keeps_what_matters_most():
    assert [line.split()[0] for line in lines(VIEW, height=3)] == ["step", "reward", "pass@1"]


def test_a_narrow_terminal_has_the_progress_alone():
    assert lines(VIEW, width=15) == ["step 45/90  1:1"]


WIDTHS = st.integers(min_value=0, max_value=130)


@given(question=st.text(), text=st.text(), width=WIDTHS, height=st.integers(min_value=0, max_value=40))
@settings(max_examples=150, deadline=None)
def test_no_text_and_no_size_makes_it_fail_or_overflow(question, text, width, height):
    for encoding in ("utf-8", "ascii"):
        answer = Answer(
            question=printable(question, encoding),
            text=printable(text, encoding),
            status="wrong",
            reward=None,
            num_tokens=len(text),
        )
        view = Snapshot(total=3, step=5, values=VIEW.values, seconds=VIEW.seconds, reward=(0.5,), answer=answer)
        drawn = lines(view, width=width, height=height, marks=marks_for(encoding))
        assert len(drawn) <= max(1, height)
        assert all(cell_len(line) <= max(1, width) and "\n" not in line for line in drawn)
        for line in drawn:
            line.encode(encoding)


@given(parts=st.dictionaries(st.sampled_from("abcdef"), st.floats(0.001, 1e6), min_size=1), width=WIDTHS)
def test_the_cells_of_a_bar_add_up(parts, width):
    cells = cells_of(parts, width)
    assert sum(cells.values()) == width
    assert all(abs(cells[name] - width * value / sum(parts.values())) <= 1.001 for name, value in parts.items())


@given(values=st.lists(st.floats(-1e6, 1e6)), width=WIDTHS)
def test_a_sparkline_fits(values, width):
    assert len(sparkline(values, width=width, blocks=BLOCKS.levels)) == min(len(values), width)


def test_a_flat_curve_is_in_the_middle():
    assert sparkline([0.5] * 3, width=9) == "▄▄▄"


def test_a_long_answer_shows_its_beginning_and_its_end():
    shown = folded("begin " + "x" * 500 + " end", 20, 4, "…")
    assert shown[0].startswith("begin xxx")
    assert shown[2].startswith("…x")
    assert shown[-1].endswith(" end")
    assert len(shown) == 4


def test_a_curve_holds_a_long_run_in_few_points():
    curve = Curve(size=8)
    for value in range(1000):
        curve.add(float(value))
    curve.add(float("nan"))
    assert 4 <= len(curve.points) <= 8
    assert list(curve.points) == sorted(curve.points)
    assert curve.points[0] == pytest.approx(63.5)  # the mean of the first 128


def test_the_parts_of_a_steps_time_add_up_to_it():
    values = {"step_time": 5.0, "time/sample_s": 2.0, "time/old_logprobs_s": 0.5, "time/learn_s": 1.5}
    assert seconds_by_part(values) == {"sample": 2.0, "learn": 2.0, "other": 1.0}
    assert seconds_by_part({"time/evaluate_s": 3.0}) == {"evaluate": 3.0}
