"""The only code that turns text into tokens and tokens into text."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from grpo.datatypes import Problem, Prompt
from grpo.errors import DataError, ModelError
from grpo.models import resolve_model

R1_ZERO_PREAMBLE = (  # DeepSeek-R1 report, Table 1
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., "
    "<think> reasoning process here </think> <answer> answer here </answer>. "
)
TEMPLATES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "qa": lambda question: f"Q: {question}\nA:",
        "question_answer": lambda question: f"Question: {question}\nAnswer:",
        "r1_zero": lambda question: f"{R1_ZERO_PREAMBLE}User: {question}. Assistant:",
    }
)
CHAT = "chat"
_TRIAL = "17 + 25 = 42"  # any usable tokenizer can write and read this


class Prompts:
    """Renders, encodes and decodes for one model and one template.

    ``template`` is a key of ``TEMPLATES`` or ``chat``, the model's own. ``end_token_ids`` are the tokens that end an
    answer: the end of text and, in a chat, the end of the assistant's turn.

    Raises:
        ModelError: there is no such model, it has no usable tokenizer, or ``chat`` is asked for and it has no chat
            template.
    """

    def __init__(self, model: str, template: str, *, max_prompt_length: int) -> None:
        self._tokenizer = _load_tokenizer(model)
        self._max_prompt_length = max_prompt_length
        self._chat = template == CHAT
        if self._chat and not self._tokenizer.chat_template:
            raise ModelError(
                f"template = '{CHAT}': model {model!r} has no chat template. "
                f"Choose a template among {', '.join(TEMPLATES)}, or a model that was made for chat"
            )
        self._template = self._render_chat if self._chat else TEMPLATES[template]
        self._prefix = () if self._chat else self._tokens_before_a_fresh_text()
        self.end_token_ids = self._find_end_token_ids(model)

    def render(self, question: str) -> str:
        """The prompt as text, without what the tokenizer itself puts before a text."""
        return self._template(question)

    def encode(self, problem: Problem, *, ordinal: int, attempt: int) -> Prompt:
        """The prompt as tokens; ``ordinal`` and ``attempt`` are its place in the problem stream.

        Raises:
            DataError: it is longer than ``max_prompt_length`` tokens.
        """
        token_ids = (*self._prefix, *self.encode_text(self.render(problem.question)))
        if len(token_ids) > self._max_prompt_length:
            raise DataError(
                f"problem {problem.problem_id} is a prompt of {len(token_ids)} tokens, more than "
                f"rollout.max_prompt_length = {self._max_prompt_length}. Raise rollout.max_prompt_length "
                f"(the model's window must hold it and the answer), or leave the problem out of the data"
            )
        return Prompt(problem=problem, token_ids=token_ids, ordinal=ordinal, attempt=attempt)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer, tags and all; only the token that ended it is left out."""
        end = len(token_ids)
        while end and int(token_ids[end - 1]) in self.end_token_ids:
            end -= 1
        ids = [int(token_id) for token_id in token_ids[:end]]
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token by itself, special ones by name; of a part of a character, the vocabulary's entry."""
        found = [self._tokenizer.decode([int(token_id)], clean_up_tokenization_spaces=False) for token_id in token_ids]
        names: list[str] = self._tokenizer.convert_ids_to_tokens([int(token_id) for token_id in token_ids])
        return [name if "\ufffd" in piece or not piece else piece for piece, name in zip(found, names, strict=True)]

    def save(self, folder: Path) -> None:
        """Write the tokenizer beside a checkpoint's weights."""
        self._tokenizer.save_pretrained(folder)

    def _render_chat(self, question: str, answer: str | None = None) -> str:
        messages = [{"role": "user", "content": question}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        text: str = self._tokenizer.apply_chat_template(messages, add_generation_prompt=answer is None, tokenize=False)
        return text

    def encode_text(self, text: str) -> list[int]:
        """Tokens of a text that goes on after others, such as a tool's output."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _tokens_before_a_fresh_text(self) -> tuple[int, ...]:
        """A BOS where the tokenizer adds one; never the EOS that some add behind, which would end the prompt."""
        bare = self.encode_text(_TRIAL)
        whole: list[int] = self._tokenizer.encode(_TRIAL, add_special_tokens=True)
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return tuple(whole[:start])

    def _find_end_token_ids(self, model: str) -> tuple[int, ...]:
        eos = self._tokenizer.eos_token_id
        turn_end = self._turn_end() if self._chat else None
        found = tuple(dict.fromkeys(token for token in (eos, turn_end) if token is not None))
        if not found:
            raise ModelError(
                f"model {model!r}: its tokenizer has no end-of-text token, so no answer could end. "
                "Set 'eos_token' in its tokenizer_config.json"
            )
        return found

    def _turn_end(self) -> int | None:
        """The special token that the chat template puts behind an assistant's answer, if it puts one."""
        behind = self._render_chat("Question", _TRIAL).rpartition(_TRIAL)[2].lstrip()
        first = self.encode_text(behind)[:1]
        return first[0] if first and first[0] in self._tokenizer.added_tokens_decoder else None


def _load_tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    path = resolve_model(model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"model = {model!r}: its tokenizer cannot be loaded, from a folder or from the hub: {reason}. "
            "Give the folder of a checkpoint, a hub id (owner/name) that can be reached, or 'tiny-base'"
        ) from None
    # A folder without tokenizer files gives, silently, a tokenizer that knows one token.
    echo = tokenizer.decode(tokenizer.encode(_TRIAL, add_special_tokens=False))
    if echo.replace(" ", "") != _TRIAL.replace(" ", ""):
        raise ModelError(
            f"model = {model!r}: its tokenizer turns {_TRIAL!r} into {echo!r}, so its files are missing or damaged. "
            "Put tokenizer.json and tokenizer_config.json into the checkpoint's folder"
        )
    return tokenizer
