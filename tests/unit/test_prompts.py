"""Text to tokens and back, on real tokenizers written to disk."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import grpo.models
from grpo.datatypes import Problem
from grpo.errors import DataError, ModelError
from grpo.models import resolve_model
from grpo.prompts import Prompts

CHAT_TEMPLATE = (
    "<s>{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def write_checkpoint(
    folder: Path, *, around: str = "$A", chat_template: str | None = None, eos: str | None = "</s>", tag: bool = False
) -> str:
    """A byte-level tokenizer; ``around`` is what it puts around a text, ``tag`` makes the reasoning tags special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=tag, normalized=False) for name in TAGS])
    ids = [(name, tokenizer.token_to_id(name)) for name in SPECIAL[:2]]
    tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos)
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    return str(folder)


def make_prompts(
    folder: Path, template: str = "qa", *, longest: int = 2000, around: str = "$A", **made: object
) -> Prompts:
    return Prompts(write_checkpoint(folder, around=around, **made), template, max_prompt_length=longest)  # type: ignore[arg-type]


def problem_of(question: str = "2+2") -> Problem:
    return Problem(problem_id="p/0", question=question, reference="4")


def ids_of(prompts: Prompts, question: str = "2+2") -> tuple[int, ...]:
    return prompts.encode(problem_of(question), ordinal=3, attempt=1).token_ids


@pytest.mark.parametrize(
    ("template", "text"),
    [("qa", "Q: What is {x}?\nA:"), ("question_answer", "Question: What is {x}?\nAnswer:")],
)
def test_plain_templates(tmp_path: Path, template: str, text: str) -> None:
    assert make_prompts(tmp_path, template).render(problem_of("What is {x}?")) == text


def test_the_r1_zero_template_is_the_papers(tmp_path: Path) -> None:
    text = make_prompts(tmp_path, "r1_zero").render(problem_of("What is 7 * 8?"))
    assert text == (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
        "User: What is 7 * 8?. Assistant:"
    )


def test_a_prompt_carries_its_problem_and_its_place(tmp_path: Path) -> None:
    problem = Problem(problem_id="p/0", question="2+2", reference="4")
    prompt = make_prompts(tmp_path).encode(problem, ordinal=3, attempt=1)
    assert (prompt.problem, prompt.ordinal, prompt.attempt) == (problem, 3, 1)
    assert len(prompt.token_ids) == len("Q: 2+2\nA:")


def test_tokens_decode_to_the_rendered_text(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, "r1_zero")
    question = "Was ergibt π × 2 — «ungefähr»? 🙂"
    assert prompts.decode(ids_of(prompts, question)) == prompts.render(problem_of(question))


@pytest.mark.parametrize(("around", "num_bos"), [("$A", 0), ("<s> $A", 1), ("<s> $A </s>", 1)])
def test_bos_is_added_as_the_tokenizer_does_and_eos_never(tmp_path: Path, around: str, num_bos: int) -> None:
    prompts = make_prompts(tmp_path, around=around)
    ids = ids_of(prompts)
    bos, eos = 256, 257
    assert ids.count(bos) == num_bos
    assert ids[:num_bos] == (bos,) * num_bos
    assert eos not in ids


def test_a_chat_prompt_has_the_templates_bos_once_and_opens_the_answer(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, "chat", around="<s> $A", chat_template=CHAT_TEMPLATE)
    assert prompts.render(problem_of()) == "<s><|user|>2+2<|end|>\n<|assistant|>"
    ids = ids_of(prompts)
    assert ids.count(256) == 1
    assert ids[0] == 256
    assert prompts.decode(ids) == prompts.render(problem_of())


def test_end_tokens_are_eos_and_in_a_chat_the_turns_end(tmp_path: Path) -> None:
    assert make_prompts(tmp_path / "a").end_token_ids == (257,)
    assert make_prompts(tmp_path / "b", "chat", chat_template=CHAT_TEMPLATE).end_token_ids == (257, 260)
    same = make_prompts(tmp_path / "c", "chat", chat_template=CHAT_TEMPLATE, eos="<|end|>")
    assert same.end_token_ids == (260,)
    endless = CHAT_TEMPLATE.replace("<|end|>", "")
    assert make_prompts(tmp_path / "d", "chat", chat_template=endless).end_token_ids == (257,)


@pytest.mark.parametrize("tag", [False, True])
def test_decoding_keeps_the_tags_and_leaves_out_the_end_alone(tmp_path: Path, tag: bool) -> None:
    prompts = make_prompts(tmp_path, tag=tag)
    answer = "<think>2+2=4 , no . </think> <answer>4</answer>"
    ids = [*prompts.encode(Problem(problem_id="p", question=answer, reference=""), ordinal=0, attempt=0).token_ids]
    body = ids[len("Q: ") : -len("\nA:")]
    assert min(body) < 256 < max(body)
    assert prompts.decode(body) == answer
    assert prompts.decode([*body, 257]) == answer
    assert prompts.decode([*body, 260]) == answer + "<|end|>"
    assert prompts.decode([257]) == ""
    assert prompts.decode([]) == ""


def test_a_saved_tokenizer_encodes_as_before(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path / "a", "chat", around="<s> $A", chat_template=CHAT_TEMPLATE)
    prompts.save(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text((tmp_path / "a" / "config.json").read_text())
    again = Prompts(str(tmp_path / "b"), "chat", max_prompt_length=2000)
    assert ids_of(again) == ids_of(prompts)
    assert again.end_token_ids == prompts.end_token_ids


def test_a_prompt_that_is_too_long_names_problem_length_and_key(tmp_path: Path) -> None:
    prompts = make_prompts(tmp_path, longest=9)
    assert len(ids_of(prompts, "2+2")) == 9
    with pytest.raises(DataError, match=r"problem p/0 is a prompt of 10 tokens.*rollout\.max_prompt_length = 9"):
        ids_of(prompts, "2+22")


def test_chat_needs_a_chat_template(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"template = 'chat': model .* has no chat template\. Choose .*r1_zero"):
        make_prompts(tmp_path, "chat")


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no end-of-text token.*Set 'eos_token'"):
        make_prompts(tmp_path, eos=None)


def test_a_folder_without_tokenizer_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(ModelError, match=r"Put tokenizer\.json"):
        Prompts(str(tmp_path), "qa", max_prompt_length=9)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(ModelError, match=r"its tokenizer cannot be loaded"):
        Prompts(str(tmp_path), "qa", max_prompt_length=9)


def test_a_hub_id_that_cannot_be_reached_is_refused_without_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"model = 'no-such-owner/no-such-model': its tokenizer cannot be loaded"
    ) as caught:
        Prompts("no-such-owner/no-such-model", "qa", max_prompt_length=9)
    assert caught.value.__suppress_context__


def test_a_hub_id_and_a_folder_resolve_to_themselves(tmp_path: Path) -> None:
    assert resolve_model("Qwen/Qwen3-0.6B-Base") == "Qwen/Qwen3-0.6B-Base"
    assert resolve_model(write_checkpoint(tmp_path)) == str(tmp_path)


def test_tiny_base_is_the_packaged_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(grpo.models._PACKAGED, "tiny-base", tmp_path)
    with pytest.raises(ModelError, match=r"lacks its checkpoint .*make tiny-base"):
        resolve_model("tiny-base")
    write_checkpoint(tmp_path)
    assert resolve_model("tiny-base") == str(tmp_path)


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "~/no-such-model", "a/b/c", ""])
def test_a_path_that_does_not_exist_is_no_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match=r"(there is no such folder|without config\.json)"):
        resolve_model(name)


def test_a_missing_name_in_a_folder_that_is_here_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ModelError, match=r"model = 'runs/first': there is no such folder"):
        resolve_model("runs/first")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"a folder without config\.json"),
        ("{bad", r"its config\.json is not JSON"),
        ("{}", r"has no 'model_type'"),
        ("[]", r"has no 'model_type'"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path, config: str | None, message: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=message):
        resolve_model(str(tmp_path))


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("x")
    with pytest.raises(ModelError, match=r"a file, not a folder"):
        resolve_model(str(tmp_path / "model.gguf"))
