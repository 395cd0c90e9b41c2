"""BOS, stop tokens, switches and system prompts, with tokenizers as Qwen's, Llama's and Gemma's are made."""

import json
from pathlib import Path

import pytest

from grpo.datatypes import Problem
from grpo.errors import ModelError, RecipeError
from grpo.prompts import Prompts
from grpo.recipe import SHIPPED, load_recipe
from tests.unit.tokenizers_on_disk import LLAMA_SPECIAL, QWEN_SPECIAL, write_family, write_tokenizer

PROBLEM = Problem(problem_id="p/0", question="What is {2} + 2?", reference="4", columns={"nums": [2, 2]})
BOS_MARK = "{{ bos_token }}{{ question }}"


def prompts_of(folder: Path, family: str, template: str = "chat", **options: object) -> Prompts:
    return Prompts(write_family(folder, family), template, max_prompt_length=2000, **options)  # type: ignore[arg-type]


def ids_of(prompts: Prompts) -> tuple[int, ...]:
    return prompts.encode(PROBLEM, ordinal=0, attempt=0).token_ids


def jinja(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("family", "template", "num_bos"),
    [
        ("llama-base", "qa", 1),
        ("llama-base", "none", 1),
        ("llama-instruct", "qa", 1),
        ("llama-instruct", "chat", 1),  # the tokenizer adds one and the chat template writes one
        ("llama-instruct", BOS_MARK, 1),
        ("llama-base", "{{ question }}", 1),
        ("no-system", "chat", 1),
        ("mute", "chat", 0),  # a chat template writes every special token itself, or there is none
        ("mute", "qa", 1),
        ("qwen-base", "qa", 0),
        ("qwen-base", "chat", 0),
        ("qwen-instruct", "chat", 0),
        ("qwen-instruct", BOS_MARK, 0),  # without a BOS the name is there and empty
    ],
)
def test_one_bos_at_the_front_or_none(tmp_path: Path, family: str, template: str, num_bos: int) -> None:
    if "question }}" in template:
        template = jinja(tmp_path, template)
    ids = ids_of(prompts_of(tmp_path / "model", family, template))
    bos = 256  # the first of the special tokens, in the families that have one
    assert ids.count(bos) == num_bos
    assert ids[:num_bos] == (bos,) * num_bos


def test_a_question_that_brings_the_bos_along_gets_no_second_one(tmp_path: Path) -> None:
    prompts = prompts_of(tmp_path, "llama-base", "none")
    problem = Problem(problem_id="p/0", question="<|begin_of_text|>2 + 2?", reference="4")
    assert prompts.encode(problem, ordinal=0, attempt=0).token_ids.count(256) == 1


@pytest.mark.parametrize(
    ("family", "template", "stops"),
    [
        ("qwen-base", "qa", ["<|endoftext|>"]),
        ("qwen-base", "chat", ["<|endoftext|>", "<|im_end|>"]),
        ("qwen-base", "qwen_math", ["<|endoftext|>", "<|im_end|>"]),
        ("qwen-base", "tinyzero_instruct", ["<|endoftext|>", "<|im_end|>"]),
        ("qwen-base", "tinyzero", ["<|endoftext|>"]),
        ("qwen-instruct", "qa", ["<|im_end|>"]),
        ("qwen-instruct", "chat", ["<|im_end|>", "<|endoftext|>"]),
        ("llama-base", "r1", ["<|end_of_text|>"]),
        ("llama-instruct", "chat", ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"]),
        ("no-system", "chat", ["<eos>", "<end_of_turn>"]),
        ("qwen-base", "<|im_start|>user\n{{ question }}<|im_end|>", ["<|endoftext|>", "<|im_end|>"]),
        ("llama-instruct", "{{ question }}", ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"]),
    ],
)
def test_answers_end_at(tmp_path: Path, family: str, template: str, stops: list[str]) -> None:
    if "question }}" in template:
        template = jinja(tmp_path, template)
    prompts = prompts_of(tmp_path / "model", family, template)
    special = LLAMA_SPECIAL if family.startswith("llama") else QWEN_SPECIAL
    special = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>") if family == "no-system" else special
    assert [stop.text for stop in prompts.stops()] == stops
    assert list(prompts.end_token_ids) == [256 + special.index(text) for text in stops]
    assert all(stop.why for stop in prompts.stops())


def test_each_stop_says_why(tmp_path: Path) -> None:
    prompts = prompts_of(tmp_path, "llama-instruct")
    assert [(stop.text, stop.why) for stop in prompts.stops()] == [
        ("<|eot_id|>", "the tokenizer's end of text"),
        ("<|end_of_text|>", "eos_token_id of generation_config.json"),
        ("<|eom_id|>", "eos_token_id of generation_config.json"),
    ]


def test_without_a_generation_config_the_configuration_says_it(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, special=QWEN_SPECIAL, eos="<|im_end|>", chat_template="{{ messages[0].content }}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": 256}), encoding="utf-8")
    prompts = Prompts(str(tmp_path), "chat", max_prompt_length=99)
    assert [(stop.text, stop.why) for stop in prompts.stops()] == [
        ("<|im_end|>", "the tokenizer's end of text"),
        ("<|endoftext|>", "eos_token_id of config.json"),
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"eos_token_id": 999}', "has eos_token_id 999, and its tokenizer has tokens 0 to 258"),
        ("{", "is not JSON"),
        ("[1]", "holds no mapping"),
    ],
)
def test_a_wrong_generation_config_is_named(tmp_path: Path, written: str, said: str) -> None:
    write_family(tmp_path, "qwen-instruct")
    (tmp_path / "generation_config.json").write_text(written, encoding="utf-8")
    with pytest.raises(ModelError, match=f"its generation_config.json {said}"):
        Prompts(str(tmp_path), "chat", max_prompt_length=99)


@pytest.mark.parametrize(("thinking", "end"), [(False, "<think>\n\n</think>\n\n"), (True, "assistant\n")])
def test_thinking_is_switched_by_the_chat_templates_own_name(tmp_path: Path, thinking: bool, end: str) -> None:
    prompts = prompts_of(tmp_path, "qwen-instruct", switches={"enable_thinking": thinking})
    assert prompts.render(PROBLEM).endswith(end)


@pytest.mark.parametrize("name", ["thinking", "messages", "bos_token", "padding"])
def test_a_switch_that_the_chat_template_does_not_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"does not mention it.* It mentions enable_thinking\. Use") as caught:
        prompts_of(tmp_path, "qwen-instruct", switches={name: True})
    assert caught.value.key == f"chat_template_kwargs.{name}"


def test_a_chat_template_without_switches_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"It mentions no switch at all\. Leave it out"):
        prompts_of(tmp_path, "llama-instruct", switches={"enable_thinking": False})


def test_a_system_prompt_is_the_first_message(tmp_path: Path) -> None:
    prompts = prompts_of(tmp_path, "qwen-base", system_prompt="Think.")
    assert prompts.render(PROBLEM) == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\nWhat is {2} + 2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chat_template_that_refuses_a_system_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"refuses a system message .*System role not supported\. Leave system_prompt"):
        prompts_of(tmp_path, "no-system", system_prompt="Think.")


def test_a_chat_template_that_leaves_the_system_prompt_out_is_named(tmp_path: Path) -> None:
    deaf = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    write_tokenizer(tmp_path, special=QWEN_SPECIAL, eos="<|im_end|>", chat_template=deaf)
    with pytest.raises(ModelError, match=r"system_prompt = 'Think\.': the chat template of .* leaves a system message"):
        Prompts(str(tmp_path), "chat", max_prompt_length=99, system_prompt="Think.")


def test_a_chat_template_that_changes_answers_has_no_turns_end_of_its_own(tmp_path: Path) -> None:
    shy = "{% for m in messages if m.role != 'assistant' %}<|im_start|>{{ m.content }}{% endfor %}"
    write_tokenizer(tmp_path, special=QWEN_SPECIAL, eos="<|endoftext|>", chat_template=shy)
    assert Prompts(str(tmp_path), "chat", max_prompt_length=99).end_token_ids == (256,)


def test_several_chat_templates_without_a_default_are_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, special=QWEN_SPECIAL, eos="<|im_end|>", chat_template={"rag": "a", "tool_use": "b"})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"several chat templates \(rag, tool_use\) .*'default'.*mine\.jinja"):
        Prompts(str(tmp_path), "chat", max_prompt_length=99)


def test_a_chatml_text_is_refused_where_its_marks_are_no_tokens(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"template = 'qwen_math'.* has no token <\|im_start\|>"):
        prompts_of(tmp_path, "llama-base", "qwen_math")


def test_a_recipe_says_it_all(tmp_path: Path) -> None:
    overrides = [f"model={write_family(tmp_path, 'qwen-instruct')}", "template=chat", "system_prompt=Think."]
    overrides += ["chat_template_kwargs={enable_thinking: false}", "rollout.max_prompt_length=200"]
    text = Prompts.of(load_recipe(SHIPPED / "quickstart.yaml", overrides)).render(PROBLEM)
    assert "system\nThink." in text
    assert text.endswith("</think>\n\n")
