"""The texts by name against their sources, and Jinja files with what can be wrong in them."""

from pathlib import Path

import pytest

import grpo.models
from grpo.check import report
from grpo.datatypes import Problem
from grpo.errors import CheckpointError, RecipeError, UserError
from grpo.generators import make_generator
from grpo.prompts import Prompts
from grpo.recipe import SHIPPED, load_recipe
from grpo.surroundings import check_same
from grpo.templates import CHAT, NAMED
from grpo.templates.jinja_file import JinjaFile
from rewards import Question, Status, make_verifier
from tests.unit.tokenizers_on_disk import CHATML, write_family

QUICKSTART = SHIPPED / "quickstart.yaml"
PROBLEM = Problem(
    problem_id="p/0", question="2 + 2?", reference="4", columns={"nums": [2, 2], "target": 4, "question": "hidden"}
)


def own(folder: Path, text: str, **options: object) -> Prompts:
    model = write_family(folder / "model", "qwen-base")
    file = folder / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    return Prompts(model, str(file), max_prompt_length=500, **options)  # type: ignore[arg-type]


def refused(*overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(QUICKSTART, overrides)
    return caught.value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "r1",
            "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The "
            "Assistant first thinks about the reasoning process in the mind and then provides the User with the "
            "answer. The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> "
            "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here "
            "</answer>.\nUser: {x}?\nAssistant: <think>",
        ),
        (
            "qwen_math",
            "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
            "<|im_start|>user\n{x}?<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("none", "{x}?"),
        (
            "tinyzero",
            "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
            "assistant first thinks about the reasoning process in the mind and then provides the user with the "
            "answer.\nUser: {x}? Show your work in <think> </think> tags. And return the final answer in <answer> "
            "</answer> tags, for example <answer> (1 + 2) / 3 </answer>.\n"
            "Assistant: Let me solve this step by step.\n<think>",
        ),
        (
            "tinyzero_instruct",
            "<|im_start|>system\nYou are a helpful assistant. You first thinks about the reasoning process in the mind "
            "and then provides the user with the answer.<|im_end|>\n<|im_start|>user\n {x}? Show your work in <think> "
            "</think> tags. And return the final answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 "
            "</answer>.<|im_end|>\n<|im_start|>assistant\nLet me solve this step by step.\n<think>",
        ),
    ],
)
def test_texts_are_their_sources(name: str, text: str) -> None:
    assert NAMED[name].render("{x}?") == text


def test_which_templates_open_the_reasoning() -> None:
    assert {name for name, template in NAMED.items() if template.opens_thinking} == {
        "r1",
        "tinyzero",
        "tinyzero_instruct",
    }


def test_an_answer_that_begins_inside_the_reasoning_is_judged_as_tinyzero_does() -> None:
    problem = make_generator("countdown", {}).problem(0, seed=0, held_out=False)
    question = Question(text=problem.question, reference=problem.reference, columns={"nums": [2, 3, 4], "target": 14})
    right = "2 + 3 * 4 is 14.</think>\n<answer> 2 + 3 * 4 </answer>"
    countdown, layout = make_verifier("countdown"), make_verifier("format", opened=True)
    for answer, score in (
        (right, 1.0),
        (right.replace("</think>", ""), 1.0),  # TinyZero looks at the answer alone
        (right.replace("3 * 4", "3 + 4"), 0.1),  # an equation, and a wrong one
        ("so I think</think> 2 + 3 * 4", 0.0),
        ("", 0.0),
    ):
        assert countdown.verify(answer, question).score == score
    assert layout.verify(right, question).status is Status.CORRECT
    # the example that the prompt itself gives is nobody's answer
    assert "</answer>" in NAMED["tinyzero"].render(problem.question)
    assert countdown.verify("no tags here", question).score == 0.0


@pytest.mark.parametrize(
    ("template", "rewards", "said"),
    [
        ("tinyzero", "[{name: countdown}, {name: format}]", "'rewards.1.args.opened' = false: .* ends inside"),
        ("r1", "[{name: format, args: {mode: soft}}]", r"'rewards.0.args.opened' = false: .*Set .*opened=true\."),
        ("r1_zero", "[{name: format, args: {opened: true}}]", r"does not end inside .*opened=false\."),
    ],
)
def test_a_format_reward_must_know_where_answers_begin(template: str, rewards: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(QUICKSTART, [f"template={template}", f"rewards={rewards}"])


def test_a_format_reward_that_knows_it_is_let_pass() -> None:
    rewards = "rewards=[{name: countdown}, {name: format, args: {opened: true}}]"
    assert load_recipe(QUICKSTART, ["template=tinyzero", rewards]).template == "tinyzero"


def test_a_name_that_there_is_not_lists_those_there_are() -> None:
    error = refused("template=tiny_zero")
    for name in (*NAMED, CHAT, "*.jinja", "The nearest is 'tinyzero'"):
        assert name in str(error)
    assert "goes by its path" in str(refused("template=xyz"))
    assert "there is no file mine.jinja" in str(refused("template=mine.jinja"))


@pytest.mark.parametrize("beside", ["system_prompt=Think.", "chat_template_kwargs.enable_thinking=false"])
def test_keys_that_a_fixed_text_has_no_place_for_are_refused(beside: str) -> None:
    error = refused(beside, "template=r1_zero")
    assert error.key == beside.partition("=")[0].partition(".")[0]
    assert "no place in template = r1_zero" in str(error)


def test_a_file_sees_question_columns_messages_and_tokens(tmp_path: Path) -> None:
    text = (
        "{{ question }}|{{ nums | join('+') }}|{{ target }}|{{ messages[0].content }}|{{ messages | length }}|"
        "{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}|{{ style }}|{{ nums | tojson }}\n"
    )
    prompts = own(tmp_path, text, system_prompt="Think.", switches={"style": "terse"})
    assert prompts.render(PROBLEM) == "2 + 2?|2+2|4|Think.|2||<|endoftext|>|True|terse|[2, 2]"


def test_a_models_chat_template_may_be_copied_into_a_file(tmp_path: Path) -> None:
    text = "{% if tools %}{{ tools }}{% endif %}{% generation %}" + CHATML + "{% endgeneration %}"
    chat = Prompts(write_family(tmp_path / "chat", "qwen-base"), "chat", max_prompt_length=500)
    assert own(tmp_path, text).render(PROBLEM) == chat.render(PROBLEM)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a\n{{ questoin }}",
            r"line 2: 'questoin' is undefined\. There are question, messages, .* Did you mean 'quest",
        ),
        ("{{ target }}\n\n{{ target + 'x' }}", "line 3: unsupported operand"),
        ("{{ nums[7] }}", "line 1: .*has no element 7"),
        ("{{ target // 0 }}", "line 1: .*(division|modulo).* zero"),
        ("{{ raise_exception('only odd ones') }}", "line 1: only odd ones"),
        ("{{ nums.append(3) }}", "line 1: .*unsafe|line 1: .*not safely callable"),
        ("{{ question.__class__.__mro__ }}", "line 1: .*unsafe"),
    ],
)
def test_what_fails_in_a_file_names_file_line_and_reason(tmp_path: Path, text: str, said: str) -> None:
    prompts = own(tmp_path, text)
    with pytest.raises(RecipeError, match=rf"mine\.jinja': {said}"):
        prompts.render(PROBLEM)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n{% if %}", "line 2 is no Jinja"),
        ("{{ nums | random }}", "line 1 is no Jinja: No filter named 'random'"),
        ("\n{% include 'other.jinja' %}", "line 2 takes in another file"),
    ],
)
def test_a_file_that_is_no_template_is_refused_before_a_run(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        report(load_recipe(QUICKSTART, [f"template={file}"]))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jinja").write_bytes(b"\xff")
    (tmp_path / "b.jinja").mkdir()
    with pytest.raises(RecipeError, match=r"a\.jinja': is not UTF-8 text \(byte 0\)"):
        JinjaFile(str(tmp_path / "a.jinja"))
    with pytest.raises(RecipeError, match=r"b\.jinja': cannot be read: Is a directory"):
        JinjaFile(str(tmp_path / "b.jinja"))


def test_a_system_prompt_needs_messages_and_a_switch_its_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'system_prompt' = 'Think\.': .* does not mention 'messages'"):
        own(tmp_path, "{{ question }}", system_prompt="Think.")
    with pytest.raises(RecipeError, match=r"'chat_template_kwargs\.style'.* is not in the template: .* mentions quest"):
        own(tmp_path, "{{ question }}", switches={"style": "terse"})
    with pytest.raises(RecipeError, match=r"'chat_template_kwargs\.question'.* the renderer itself gives"):
        own(tmp_path, "{{ question }}", switches={"question": "mine"})


def test_an_empty_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"problem p/0: its prompt is empty"):
        own(tmp_path, "{% if not question %}a{% endif %}").encode(PROBLEM, ordinal=0, attempt=0)


def outline(*overrides: str) -> str:
    return report(load_recipe(QUICKSTART, overrides)).partition("# prompt\n")[2]


def test_check_says_the_template_and_what_ends_an_answer(tmp_path: Path) -> None:
    said = outline("template=tinyzero", "rollout.stop=['</answer>']")
    assert "TinyZero's base prompt" in said
    assert "an answer begins inside <think>" in said
    assert "ends at <|endoftext|> (the tokenizer's end of text), '</answer>' (rollout.stop)" in said
    model = write_family(tmp_path / "Tiny-Instruct", "qwen-instruct")
    said = outline(f"model={write_config(model)}", "template=chat")
    assert "<|im_end|> (the tokenizer's end of text), token 258 (generation_config.json), token 256" in said
    assert "text for base models" not in said


@pytest.mark.parametrize(("folder", "noted"), [("Tiny-Instruct", True), ("gemma-2b-it", True), ("Tiny-Base", False)])
def test_an_instruct_model_with_a_base_models_text_gets_a_note(tmp_path: Path, folder: str, noted: bool) -> None:
    model = write_config(write_family(tmp_path / folder, "qwen-instruct"))
    assert ("template=qa is a text for base models" in outline(f"model={model}")) == noted
    assert "text for base models" not in outline(f"model={model}", "template=qwen_math")


def write_config(model: str) -> str:
    """The packaged model's sizes beside another tokenizer, so that the check can size it."""
    sizes = (Path(grpo.models.resolve_model("tiny-base")) / "config.json").read_text(encoding="utf-8")
    (Path(model) / "config.json").write_text(sizes, encoding="utf-8")
    return model


def test_a_changed_file_is_named_before_a_run_goes_on(tmp_path: Path) -> None:
    before, after = own(tmp_path, "{{ question }}").fingerprint(), own(tmp_path, "{{ question }}!").fingerprint()
    with pytest.raises(CheckpointError, match=r"since the checkpoint, template .*mine\.jinja was \w{64} and is \w{64}"):
        check_same(before, after, allow_change=False)


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    before = own(tmp_path, "{{ question }}").fingerprint()
    again, after = own(tmp_path, "{{ question }}").fingerprint(), own(tmp_path, "{{ question }}!").fingerprint()
    assert before == again
    assert before.keys() == after.keys() == {f"template {tmp_path / 'mine.jinja'}"}
    assert before != after
