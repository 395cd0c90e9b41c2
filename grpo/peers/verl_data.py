"""verl's prepared datasets, by the file that its scripts name, as the datasets that they were made of.

verl's own files hold prompts as messages and references in a nested column. A recipe names such a file where it is on
this machine, and otherwise the dataset before that, with the file in a comment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grpo.peers.data_sources import Source, data_keys
from grpo.peers.mapping import NoCounterpartError, Noted, Settings

Keys = Mapping[str, Any]


class Prepared(NamedTuple):
    """A dataset, its columns, and how verl scores it."""

    keys: Keys
    split: str  # of the training file
    test_split: str
    reward: Keys
    signed: bool = False  # scored -1 and 1, where this trainer scores 0 and 1


GSM8K = Prepared(
    {"path": "openai/gsm8k", "subset": "main", "reference_pattern": "#### (.*)"},
    "train",
    "test",
    {"name": "number", "args": {"extract": "hashes"}},
)
MATH = Prepared(
    {"path": "DigitalLearningGmbH/MATH-lighteval", "question": "problem", "reference": "solution"},
    "train",
    "test",
    {"name": "math_answer", "args": {"extract": "boxed"}},
)
DAPO = Prepared(
    {"path": "open-r1/DAPO-Math-17k-Processed", "subset": "en", "question": "prompt", "reference": "solution"},
    "train",
    "train",
    {"name": "math_answer", "args": {"extract": "final_answer"}},
    True,
)
AIME = Prepared(
    {"path": "HuggingFaceH4/aime_2024", "question": "problem"},
    "train",
    "train",
    {"name": "math_answer", "args": {"extract": "auto"}},
    True,
)
PREPARED = {"gsm8k": GSM8K, "dapo-math": DAPO, "dapo_math": DAPO, "aime": AIME, "math": MATH}  # by a part of the path
WITH_IMAGES = ("geo3k", "geometry3k", "multimodal")
OWN_REFERENCE = "reward_model.ground_truth"  # in verl's own files
SEVERAL = "verl joins its files, so that each counts by its size; here each has a weight, 1 unless told."
ELSEWHERE = (
    "verl's file is not on this machine; once it is, name it, with question: {question} and reference: {reference}."
)
OTHERWISE: Keys = {"name": "math_answer", "args": {"extract": "auto"}}


def prepared(file: str) -> Prepared | None:
    """What a file holds, by its name; None where that is not known."""
    return next((known for part, known in PREPARED.items() if part in file.lower()), None)


def files_of(value: Any) -> list[str]:
    """The files that a key of verl names: one, or a list."""
    return [str(file) for file in (value if isinstance(value, list) else [value])]


def source_keys(key: str, section: str, settings: Settings) -> Noted:
    """The keys of ``data.train`` or ``data.held_out``: a source for each file that ``key`` names.

    Raises:
        NoCounterpartError: the problems of all of them have images.
    """
    files = files_of(settings[key])
    texts = [file for file in files if not any(part in file.lower() for part in WITH_IMAGES)]
    if not texts:
        raise NoCounterpartError(f"{', '.join(files)}: problems with images, which nothing here reads")
    sources = [_source(file, section, settings) for file in texts]
    notes = [f"{file} left out: it has problems with images." for file in files if file not in texts]
    notes += [SEVERAL] * (len(texts) > 1)
    if any(source.comment for source in sources):
        notes.append(ELSEWHERE.format(question=settings["data.prompt_key"], reference=OWN_REFERENCE))
    return data_keys(section, sources, note=" ".join(notes))


def _source(file: str, section: str, settings: Settings) -> Source:
    """verl's file where it is on this machine, or else the dataset that it was made of, if that is known."""
    own = {"path": file, "question": settings["data.prompt_key"], "reference": OWN_REFERENCE}
    if (settings.folder / Path(file).expanduser()).is_file():
        return Source(keys=own)
    known = prepared(file)
    if known is None:
        return Source(keys=own, comment=f"{file} is made by a script of verl's examples/data_preprocess")
    split = known.split if section == "data.train" else known.test_split
    return Source(keys={**known.keys, "split": split}, comment=f"the dataset that {file} is made of")


def rewards(settings: Settings) -> Any:
    """What judges an answer, and DAPO's penalty for overlong ones beside it."""
    judge, note = _judge(settings)
    known = prepared(files_of(settings["data.train_files"])[0])
    signed = known is not None and known.signed
    overlong = _overlong(settings, weight=0.5 if signed else 1.0)
    if overlong is None:
        return Noted([judge], note)
    if signed:
        note += " verl scores this dataset -1 or 1, here it is 0 or 1: the overlong penalty has half its weight."
    return Noted([judge, overlong], note.strip())


def _judge(settings: Settings) -> tuple[dict[str, Any], str]:
    path, name = settings["custom_reward_function.path"], settings["custom_reward_function.name"]
    if path and (settings.folder / str(path)).expanduser().is_file():
        return {"fn": f"{settings.folder / str(path)}:{name}"}, ""
    known = [prepared(file) for file in files_of(settings["data.train_files"])]
    rewards = [each.reward for each in known if each]
    alike = len(rewards) == len(known) and all(reward == rewards[0] for reward in rewards)
    judge = dict(rewards[0] if alike else OTHERWISE)
    if path:
        return judge, f"{path} is not here; once it is, write fn: {path}:{name} for it, unchanged."
    return judge, "" if alike else "verl scores each row by its data_source; here one judge does for all: look it over."


def _overlong(settings: Settings, *, weight: float) -> dict[str, Any] | None:
    for place in OVERLONG:
        enabled, soft = settings.get(f"{place}.enable"), settings.get(f"{place}.len")
        if enabled and soft:
            longest = settings.get("reward_model.reward_kwargs.max_resp_len") or settings["data.max_response_length"]
            factor = settings.get(f"{place}.penalty_factor")
            weight *= 1.0 if factor is None else float(factor)
            args = {"max_tokens": int(longest), "soft_tokens": int(soft)}
            return {"name": "length", "args": args} | ({} if weight == 1 else {"weight": weight})
    return None


OVERLONG = (
    "reward_model.reward_kwargs.overlong_buffer_cfg",
    "reward.reward_kwargs.overlong_buffer_cfg",
    "reward_model.overlong_buffer",
    "custom_reward_function.overlong_buffer",
)
