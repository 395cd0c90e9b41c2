"""The templates that go by a name, each word for word as its source has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from grpo.errors import ModelError

CHAT = "chat"  # the model's own
OPENING = "<think>"
TURN_START = "<|im_start|>"  # ChatML
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")  # of ChatML, Llama 3, Gemma, Phi
_SLOT = "{question}"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with one place for the question.

    >>> Template("Q: {question}\\nA:", "").render("What is {x}?")
    'Q: What is {x}?\\nA:'
    """

    text: str
    source: str

    def render(self, question: str) -> str:
        """Not ``str.format``: what stands in braces in a question, or in a template's LaTeX, is left alone."""
        before, _, after = self.text.partition(_SLOT)
        return f"{before}{question}{after}"

    @property
    def opens_thinking(self) -> bool:
        """Whether an answer begins inside ``<think>``, which the prompt has written already."""
        return self.text.endswith(OPENING)

    @property
    def is_chatml(self) -> bool:
        """Whether it writes a chat's marks out, which the model's tokenizer must then know."""
        return TURN_START in self.text


_COUNTDOWN = (  # what TinyZero asks for behind the numbers and the target
    "Show your work in <think> </think> tags. And return the final answer in <answer> </answer> tags, for example "
    "<answer> (1 + 2) / 3 </answer>."
)

NAMED: Mapping[str, Template] = MappingProxyType(
    {
        "qa": Template("Q: {question}\nA:", "the plainest; the packaged models know it"),
        "question_answer": Template("Question: {question}\nAnswer:", "the usual few-shot form, without the shots"),
        # The report prints no line break; User and Assistant follow on the same line.
        "r1_zero": Template(
            "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
            "assistant first thinks about the reasoning process in the mind and then provides the user with the "
            "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
            "tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
            "User: {question}. Assistant:",
            "DeepSeek-R1, arXiv 2501.12948, table 1",
        ),
        # Not the report's: capitals, a tag pair for each of the two, line breaks, and the reasoning opened.
        "r1": Template(
            "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The "
            "Assistant first thinks about the reasoning process in the mind and then provides the User with the "
            "answer. The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> "
            "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here "
            "</answer>.\nUser: {question}\nAssistant: <think>",
            "understand-r1-zero, arXiv 2503.20783 (train_zero_math.py)",
        ),
        "qwen_math": Template(
            "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
            "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
            "understand-r1-zero, arXiv 2503.20783 (train_zero_math.py)",
        ),
        "none": Template("{question}", "understand-r1-zero, arXiv 2503.20783 (train_zero_math.py)"),
        "tinyzero": Template(
            "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
            "assistant first thinks about the reasoning process in the mind and then provides the user with the "
            f"answer.\nUser: {_SLOT} {_COUNTDOWN}\nAssistant: Let me solve this step by step.\n<think>",
            "TinyZero's base prompt (examples/data_preprocess/countdown.py)",
        ),
        # The space before the question is TinyZero's.
        "tinyzero_instruct": Template(
            "<|im_start|>system\nYou are a helpful assistant. You first thinks about the reasoning process in the "
            "mind and then provides the user with the answer.<|im_end|>\n"
            f"<|im_start|>user\n {_SLOT} {_COUNTDOWN}<|im_end|>\n"
            "<|im_start|>assistant\nLet me solve this step by step.\n<think>",
            "TinyZero's qwen-instruct prompt (examples/data_preprocess/countdown.py)",
        ),
    }
)


def is_jinja(template: str) -> bool:
    """Whether the key's value is a path of a Jinja file."""
    return template.endswith(".jinja")


def is_template(name: str) -> bool:
    """Whether ``template`` may have this value.

    >>> [is_template(name) for name in ("qa", "chat", "prompts/mine.jinja", "Qa")]
    [True, True, True, False]
    """
    return name in NAMED or name == CHAT or is_jinja(name)


def no_chat_template(model: str) -> ModelError:
    """The error of ``template: chat`` where the model brings no template."""
    return ModelError(
        f"template = '{CHAT}': model {model!r} has no chat template. "
        f"Choose a template among {', '.join(NAMED)}, a Jinja file, or a model that was made for chat"
    )
