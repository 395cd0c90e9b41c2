"""Reward functions as people write them for TRL with chat models; written for the tests, and not for this trainer."""

import re


def accuracy_reward(completions, solution, **kwargs):
    """1 where what stands in the answer tags is the solution."""
    contents = [completion[0]["content"] for completion in completions]
    rewards = []
    for content, sol in zip(contents, solution, strict=True):
        found = re.findall(r"<answer>(.*?)</answer>", content, re.DOTALL)
        rewards.append(1.0 if found and found[-1].strip() == sol else 0.0)
    return rewards


def format_reward(completions, **kwargs):
    """1 where reasoning and answer stand in their tags."""
    pattern = r"^<think>.*?</think>\s*<answer>.*?</answer>$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content.strip(), re.DOTALL) else 0.0 for content in contents]


def mean_length_reward(completions, completion_ids, **kwargs):
    """How an answer's length stands to the longest of its group: what only a function of many answers can tell."""
    longest = max(len(ids) for ids in completion_ids)
    return [len(ids) / longest for ids in completion_ids]
