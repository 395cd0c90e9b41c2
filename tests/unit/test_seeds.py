"""Seeds follow from names alone."""

import itertools

import numpy as np
import torch

from grpo.seeds import named_seed, sample_seed

PINNED = [3140157478742251249, 1941313611765552558, 771583235216740549]


def test_a_seed_is_the_same_in_every_process_and_release():
    """Pinned: a changed derivation would change every resumed and every repeated run."""
    assert sample_seed(0, "arithmetic/7", 0, 3) == named_seed("sample", 0, "arithmetic/7", 0, 3)
    assert [sample_seed(0, "arithmetic/7", 0, 3), sample_seed(1, "gsm8k/12", 2, 0), named_seed("order", 5)] == PINNED


def test_each_part_of_the_name_counts():
    names = itertools.product(range(4), ["a/1", "a/11", "b/1"], range(4), range(64))
    seeds = [sample_seed(*name) for name in names]
    assert len(set(seeds)) == len(seeds)


def test_neighbouring_parts_do_not_run_together():
    assert sample_seed(0, "a/1", 11, 1) != sample_seed(0, "a/11", 1, 1)
    assert sample_seed(0, "a", 1, 11) != sample_seed(0, "a", 11, 1)
    assert named_seed("ab", "c") != named_seed("a", "bc")


def test_seeds_fill_63_bits_and_suit_the_generators():
    seeds = np.array([sample_seed(0, f"p/{i}", 0, 0) for i in range(2000)], dtype=np.int64)
    assert seeds.min() >= 0
    bits = [(seeds >> bit & 1).mean() for bit in range(63)]
    assert min(bits) > 0.4
    assert max(bits) < 0.6
    torch.Generator().manual_seed(int(seeds.max()))
