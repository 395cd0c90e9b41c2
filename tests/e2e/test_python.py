"""``import grpo``: train twice in one process, look at the runs, ask them, with the real engine."""

import threading
from pathlib import Path

import pytest

import grpo
from grpo.errors import DataError, RecipeError, UserError
from grpo.recipe import SHIPPED, load_recipe
from grpo.sample import sample
from tests.factories import TWO_STEPS

pytest.importorskip("vllm", reason="needs vLLM (pip install 'grpo[cpu]')")

QUICKSTART = SHIPPED / "quickstart.yaml"
SMALL = TWO_STEPS | {"data.num_held_out": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> grpo.Run:
    return grpo.train(QUICKSTART, SMALL | {"output_dir": tmp_path_factory.mktemp("runs") / "one"}, quiet=True)


def test_a_run_is_looked_at_in_python(run: grpo.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert (run.state, run.step, run.recipe.max_steps) == ("finished", 2, 2)
    assert list(run.metrics.index) == [0, 1, 2]
    assert run.metrics["reward"].notna().sum() == 2
    assert [record["step"] for record in run.evaluations] == [0, 1, 2]
    by_step = run.values("pass@1")
    best = max((value, step) for step, value in by_step.items() if step)[1]
    assert run.best() == run.path / "checkpoints" / f"step-{best:08d}"
    assert run.latest() == run.path / "checkpoints" / "step-00000002"
    assert "finished, step 2 of 2" in run._repr_html_()
    assert capsys.readouterr().out == ""


def test_a_second_run_in_the_same_process_and_off_the_main_thread(tmp_path: Path) -> None:
    done: list[grpo.Run] = []
    thread = threading.Thread(
        target=lambda: done.append(
            grpo.train(QUICKSTART, SMALL | {"output_dir": tmp_path / "two", "max_steps": 1}, quiet=True)
        )
    )
    thread.start()
    thread.join()
    assert [(run.step, run.state) for run in done] == [(1, "finished")]
    evaluated = grpo.evaluate(done[0])
    assert evaluated.to_json()["values"] == done[0].evaluations[-1]["values"]


def test_a_run_answers_and_its_rewards_judge(run: grpo.Run) -> None:
    (free,) = run.sample("3+4-2", num_samples=3, temperature=0.0)
    assert free.prompt == "Q: 3+4-2\nA:"
    assert len({answer.text for answer in free.answers}) == 1, "greedy answers are one answer"
    assert [answer.verdicts for answer in free.answers] == [{}, {}, {}]
    (judged,) = run.sample("3+4-2", references=["5"], num_samples=2)
    for answer in judged.answers:
        verdict = answer.verdicts["number"]
        assert verdict.score == float(verdict.extracted == "5") == answer.reward
    known = sample(str(run.path), run.recipe, ["3+4-2"], held_out=2, num_samples=2)
    assert [one.reference is None for one in known] == [True, False, False]
    assert all(answer.verdicts for one in known[1:] for answer in one.answers)


def test_a_question_is_asked_as_the_recipe_asks_with_its_system_prompt_and_switches(tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}{{ mark }} {{ question }}", encoding="utf-8")
    keys = {"template": template, "system_prompt": "1+1=2", "chat_template_kwargs": {"mark": ";"}}
    recipe = load_recipe(QUICKSTART, keys | {"rollout.engine": "transformers"})
    (asked,) = sample("tiny-base", recipe, ["3+4"], num_samples=1, max_tokens=2)
    assert asked.prompt == "1+1=2; 3+4"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"questions": []}, UserError, "nothing is asked"),
        ({"questions": ["1+1"], "references": ["2", "3"]}, DataError, "2 references for 1 questions"),
        ({"questions": ["1+1"], "references": ["two"]}, DataError, "reference 'two'"),
        ({"questions": ["1+1"], "num_samples": 0}, UserError, "-n = 0: must be a number from 1"),
        ({"questions": ["1+1"], "max_tokens": 9000}, RecipeError, "exceeds the window"),
    ],
)
def test_what_cannot_be_asked_is_said_before_an_engine_starts(
    run: grpo.Run, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        run.sample(**arguments)  # type: ignore[arg-type]


def test_an_interrupted_run_is_saved_and_raises_and_quiet_leaves_its_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import _thread

    from grpo.trainer import Trainer

    step = Trainer._step

    def interrupted(trainer: Trainer) -> None:
        _thread.interrupt_main()  # what a notebook's interrupt button comes to
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    overrides = SMALL | {"output_dir": tmp_path / "run", "checkpoint.every": 0}
    with pytest.raises(KeyboardInterrupt) as caught:
        grpo.train(QUICKSTART, overrides, quiet=True)
    assert "resume=True" in caught.value.__notes__[0]
    warning, *rest = capsys.readouterr().out.splitlines()
    assert warning.startswith("interrupted: finishing this step")
    assert rest == []
    assert grpo.load_run(tmp_path / "run").latest() == tmp_path / "run" / "checkpoints" / "step-00000001"
    monkeypatch.undo()
    assert grpo.train(QUICKSTART, overrides, resume=True, quiet=True).step == 2
