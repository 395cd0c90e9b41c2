"""AdamW over fp32 values, whatever the model computes in."""

import pytest
import torch
import transformers
from torch import nn

from grpo.learner import Learner, Policy
from grpo.learner.optimizer import Optimizer
from tests.factories import make_ragged_samples, make_recipe

BF16_STEP_BELOW_ONE = 2.0**-8


def one_weight(dtype: torch.dtype, **settings: float) -> tuple[nn.Linear, Optimizer]:
    module = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.ones_(module.weight)
    return module, Optimizer(module, make_recipe(learner={"max_grad_norm": 1e9} | settings).learner, max_updates=100)


def step_with(module: nn.Linear, optimizer: Optimizer, gradient: float) -> float:
    module.weight.grad = torch.full_like(module.weight, gradient)
    optimizer.accumulate()
    return optimizer.step()


def test_updates_below_bf16_resolution_add_up_in_the_master_and_move_the_parameter():
    learning_rate = 1e-4  # a fortieth of what bf16 can tell apart below one
    module, optimizer = one_weight(torch.bfloat16, learning_rate=learning_rate)
    values = []
    for _ in range(40):
        step_with(module, optimizer, 1.0)
        values.append(module.weight.item())
    master = dict(optimizer.tensors())["master/weight"]
    assert values[:9] == [1.0] * 9
    assert values[-1] == 1.0 - BF16_STEP_BELOW_ONE
    assert master.dtype == torch.float32
    assert master.item() == pytest.approx(1 - 40 * learning_rate, abs=1e-6)


def test_gradients_of_micro_batches_add_up_in_fp32():
    """In bf16 1 + 2^-9 is 1: added up there, 256 small gradients would vanish."""
    module, optimizer = one_weight(torch.bfloat16)
    for gradient in [1.0] + [2.0**-9] * 256:
        module.weight.grad = torch.full_like(module.weight, gradient)
        optimizer.accumulate()
        assert module.weight.grad is None
    assert optimizer.step() == 1.5


def test_fp32_parameters_are_their_own_master():
    module, optimizer = one_weight(torch.float32, learning_rate=1e-4)
    assert step_with(module, optimizer, 1.0) == 1.0
    assert module.weight.item() == pytest.approx(1 - 1e-4, abs=1e-7)
    assert module.weight.grad is None


def test_the_norm_is_reported_before_clipping_and_the_step_uses_what_is_clipped():
    module, optimizer = one_weight(torch.float32, max_grad_norm=0.25)
    assert step_with(module, optimizer, 8.0) == 8.0
    assert dict(optimizer.tensors())["exp_avg/weight"].item() == pytest.approx(0.1 * 0.25, rel=1e-5)


def test_the_learning_rate_warms_up_linearly_and_stays():
    module, optimizer = one_weight(torch.float32, learning_rate=0.4, warmup_steps=4)
    rates = []
    for _ in range(6):
        rates.append(optimizer.learning_rate)
        step_with(module, optimizer, 1.0)
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_warm_up_is_what_the_step_uses():
    module, optimizer = one_weight(torch.float32, learning_rate=0.4, warmup_steps=4)
    step_with(module, optimizer, 1.0)
    assert module.weight.item() == pytest.approx(1 - 0.1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_updates", [0, 2])
def test_a_restored_optimizer_takes_a_bit_equal_next_step(model_folder, tmp_path, dtype, num_updates):
    samples = make_ragged_samples(3, 5)
    recipe = make_recipe(learner={"warmup_steps": 3})
    learner = Learner(Policy.load(str(model_folder), dtype=dtype, device="cpu"), recipe)
    for _ in range(num_updates):
        learner.step(samples)
    learner.policy.save(tmp_path)
    kept = {name: tensor.clone() for name, tensor in learner.optimizer.tensors()}

    resumed = Learner(Policy.load(str(tmp_path), dtype=dtype, device="cpu"), recipe)
    resumed.optimizer.load_tensors(kept, num_updates)
    for original, restored in [(learner.step(samples), resumed.step(samples)) for _ in range(2)]:
        assert original.loss == restored.loss
        assert original.grad_norm == restored.grad_norm
        assert original.learning_rate == restored.learning_rate
    after = resumed.policy.model.state_dict()
    for name, tensor in learner.policy.model.state_dict().items():
        assert torch.equal(tensor, after[name]), name
    restored_tensors = dict(resumed.optimizer.tensors())
    for name, tensor in learner.optimizer.tensors():
        assert torch.equal(tensor, restored_tensors[name]), name


def test_a_frozen_parameter_is_left_alone():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    optimizer = Optimizer(module, make_recipe().learner, max_updates=100)
    before = module.bias.clone()
    module(torch.ones(1, 2)).sum().backward()
    optimizer.accumulate()
    optimizer.step()
    assert torch.equal(module.bias, before)
    assert not any(name.endswith("/bias") for name, _ in optimizer.tensors())


def test_the_learning_rate_rises_to_its_value_then_falls_in_a_line_to_the_last_update():
    settings = make_recipe(learner={"learning_rate": 1.0, "warmup_steps": 2, "lr_scheduler_type": "linear"}).learner
    optimizer = Optimizer(nn.Linear(2, 2), settings, max_updates=6)
    rates = []
    for update in range(8):
        optimizer.num_updates = update
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.25])


def test_a_constant_learning_rate_stays():
    settings = make_recipe(learner={"learning_rate": 1.0, "warmup_steps": 2}).learner
    optimizer = Optimizer(nn.Linear(2, 2), settings, max_updates=6)
    optimizer.num_updates = 5
    assert optimizer.learning_rate == 1.0


@pytest.mark.parametrize(("kind", "min_lr_rate"), [("linear", 0.0), ("cosine", 0.0), ("cosine", 0.1), ("cosine", 1.0)])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_the_schedule_is_that_of_transformers(kind, min_lr_rate, warmup):
    """Its warm-up begins at 0, and an update at 0 would be lost: ours is one update ahead until the peak."""
    num_updates, peak = 40, 3e-4
    settings = {"learning_rate": peak, "warmup_steps": warmup, "lr_scheduler_type": kind, "min_lr_rate": min_lr_rate}
    ours = Optimizer(nn.Linear(2, 2), make_recipe(learner=settings).learner, max_updates=num_updates)
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = transformers.get_scheduler(
        "cosine_with_min_lr" if min_lr_rate else kind,
        theirs,
        num_warmup_steps=warmup,
        num_training_steps=num_updates,
        scheduler_specific_kwargs={"min_lr_rate": min_lr_rate} if min_lr_rate else None,
    )
    expected = []
    for _ in range(num_updates + 1):
        expected.append(scheduler.get_last_lr()[0])
        theirs.step()
        scheduler.step()
    for update in range(num_updates):
        ours.num_updates = update
        assert abs(ours.learning_rate - expected[update + (update < warmup)]) < 1e-12, update


def test_a_line_ends_at_the_least_rate_too():
    settings = {"learning_rate": 2.0, "lr_scheduler_type": "linear", "min_lr_rate": 0.25}
    optimizer = Optimizer(nn.Linear(2, 2), make_recipe(learner=settings).learner, max_updates=4)
    rates = []
    for update in range(6):
        optimizer.num_updates = update
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([2.0, 1.625, 1.25, 0.875, 0.875, 0.875])


def test_a_resumed_optimizer_goes_on_along_the_cosine():
    settings = {"learning_rate": 1e-2, "lr_scheduler_type": "cosine", "warmup_steps": 3, "min_lr_rate": 0.1}
    whole, first, second = (one_weight(torch.float32, **settings) for _ in range(3))

    def take_steps(pair, number):
        module, optimizer = pair
        for _ in range(number):
            module.weight.grad = torch.ones_like(module.weight)
            optimizer.accumulate()
            optimizer.step()

    take_steps(whole, 12)
    take_steps(first, 5)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_tensors(dict(first[1].tensors()), first[1].num_updates)
    take_steps(second, 7)
    assert torch.equal(whole[0].weight, second[0].weight)
    assert whole[1].learning_rate == second[1].learning_rate


def test_weights_kept_in_bf16_and_computed_with_in_fp32_take_the_steps_of_bf16_weights():
    """The same gradients on both: the same masters, the same values, whatever the arithmetic between."""
    learning_rate = 1e-3
    plain, plain_optimizer = one_weight(torch.bfloat16, learning_rate=learning_rate)
    kept = nn.Linear(1, 1, bias=False)
    nn.init.ones_(kept.weight)
    settings = make_recipe(learner={"max_grad_norm": 1e9, "learning_rate": learning_rate}).learner
    optimizer = Optimizer(kept, settings, max_updates=100, kept_in=torch.bfloat16)
    for gradients in ([1.0, 0.5], [0.25], [2.0, -1.0]) * 5:
        for gradient in gradients:
            plain.weight.grad = torch.full_like(plain.weight, gradient)
            plain_optimizer.accumulate()
            (kept.weight * gradient).sum().backward()
            optimizer.accumulate()
        assert plain_optimizer.step() == optimizer.step() == sum(gradients)
        assert kept.weight.dtype == torch.float32
        assert kept.weight.item() == plain.weight.item()
        assert kept.weight.grad is None
    assert kept.weight.item() < 1.0
    assert torch.equal(dict(optimizer.tensors())["master/weight"], dict(plain_optimizer.tensors())["master/weight"])
