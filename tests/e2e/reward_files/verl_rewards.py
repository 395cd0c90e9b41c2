"""A scorer as people write it for verl; written for the tests, and not for this trainer."""

import re


def extract_solution(solution_str):
    found = re.findall(r"<answer>(.*?)</answer>", solution_str)
    return found[-1].strip() if found else None


def compute_score(data_source, solution_str, ground_truth, extra_info=None, format_score=0.1):
    answer = extract_solution(solution_str)
    if answer is None:
        return 0.0
    correct = answer == ground_truth
    return {"score": 1.0 if correct else format_score, "acc": correct, "pred": answer}
