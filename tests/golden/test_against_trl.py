"""grpo against TRL, on batches that TRL's own trainers have seen; docs/against_trl.md explains. To renew, with TRL:

python benchmarks/against_trl.py --record
"""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.trl_batches import NUM_ANSWERS, NUM_BATCHES, Recording, first_batches, load, write_checkpoint
from benchmarks.trl_comparison import ALLOWED, compare, logprob_differences
from benchmarks.trl_settings import SETTINGS, Convention, Setting, Values

NUM_COMPARED = 4  # of the batches, under every setting; the benchmark compares all
TOLERANCE = 2 * ALLOWED  # another machine rounds in another order


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


def test_the_recording_holds_every_setting_and_ragged_batches(recording: Recording) -> None:
    assert set(recording.outcomes) == {setting.name for setting in SETTINGS}
    assert len(recording.batches) == NUM_BATCHES
    for batch in recording.batches:
        assert len(batch) == NUM_ANSWERS
        assert len({len(answer.completion_ids) for answer in batch}) > 2
        assert 0 < sum(answer.truncated for answer in batch) < NUM_ANSWERS
    assert sum(answer.environment.any() for batch in recording.batches for answer in batch) > NUM_BATCHES


def test_log_probabilities_of_the_old_policy_and_the_reference_agree(recording: Recording, folder: Path) -> None:
    assert logprob_differences(recording, folder) < TOLERANCE


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_loss_gradient_norm_and_advantages_agree(setting: Setting, recording: Recording, folder: Path) -> None:
    found = compare(setting, first_batches(recording, NUM_COMPARED), folder)
    assert found.loss is None or found.loss < TOLERANCE
    assert found.grad_norm < TOLERANCE
    assert found.advantages < TOLERANCE


def test_all_batches_agree_under_the_default(recording: Recording, folder: Path) -> None:
    found = compare(SETTINGS[0], recording, folder)
    assert found.loss is not None
    assert max(found.loss, found.grad_norm, found.advantages) < TOLERANCE


@pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if setting.convention], ids=lambda setting: setting.name
)
def test_each_convention_is_what_makes_the_difference(setting: Setting, recording: Recording, folder: Path) -> None:
    few = first_batches(recording, NUM_COMPARED)
    found = compare(replace(setting, convention=Convention.NONE), few, folder)
    assert found.loss is not None
    assert found.loss > 1e-3


def test_a_setting_that_is_not_the_recorded_one_is_told_apart(recording: Recording, folder: Path) -> None:
    few = first_batches(recording, NUM_COMPARED)
    others: list[Values] = [{"epsilon_high": 0.25}, {"importance_sampling_cap": 1.5}, {"loss_type": "grpo"}]
    for keys in others:
        assert compare(replace(SETTINGS[0], grpo=keys), few, folder).worst > 1e-4, keys
