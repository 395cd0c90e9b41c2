"""A trainer's state, back from the disk to the bit."""

from pathlib import Path

import pytest
import torch

from grpo.errors import CheckpointError
from grpo.stored_state import load_state, save_state


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    as_bytes = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right)]
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(*as_bytes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float16])
def test_every_bit_of_a_tensor_comes_back(tmp_path, dtype):
    width = torch.tensor([], dtype=dtype).element_size()
    bits = torch.randint(0, 256, (4096 * width,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensors = {"any bits, NaN with payload too": bits.view(dtype), "step": torch.tensor(3.0, dtype=dtype)}
    save_state(tmp_path, tensors.items(), {})
    loaded, _ = load_state(tmp_path)
    assert loaded.keys() == tensors.keys()
    assert all(same_bits(loaded[name], tensor) for name, tensor in tensors.items())


def test_views_shared_and_empty_tensors_come_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "base": base,
        "again": base,
        "transposed": base.t(),
        "row": base[1],
        "empty": torch.zeros(0, 4),
        "empty too": torch.zeros(0),
        "rng": torch.get_rng_state(),
        "flag": torch.tensor(True),
        "gradient": torch.nn.Parameter(torch.ones(2)),
    }
    save_state(tmp_path, tensors.items(), {})
    loaded, _ = load_state(tmp_path)
    assert loaded.keys() == tensors.keys()
    assert all(same_bits(loaded[name], tensor.detach()) for name, tensor in tensors.items())


def test_the_state_comes_back_exactly(tmp_path):
    state = {"step": 7, "big": 2**200, "third": 1 / 3, "none": None, "nested": {"é": [1, 2.5, "x", True, {}]}}
    save_state(tmp_path / "trainer_state", {}.items(), state)
    tensors, loaded = load_state(tmp_path / "trainer_state")
    assert loaded == state
    assert tensors == {}


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": (1, 2)}, r"state\['a'\]: a tuple"),
        ({"a": [{"b": {3: 1}}]}, r"state\['a'\]\[0\]\['b'\]: the key 3"),
        ({"a": torch.tensor(1)}, r"state\['a'\]: a Tensor"),
    ],
)
def test_a_state_that_json_would_change_is_refused(tmp_path, state, place):
    with pytest.raises(TypeError, match=place):
        save_state(tmp_path / "new", {}.items(), state)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "state.json").write_text('{"step": '),
        lambda folder: (folder / "tensors.safetensors").unlink(),
        lambda folder: (folder / "tensors.safetensors").write_bytes(b"\x10"),
    ],
)
def test_a_state_that_cannot_be_read_is_told(tmp_path, damage):
    save_state(tmp_path, {"a": torch.ones(3)}.items(), {"step": 1})
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=f"trainer state in {tmp_path} cannot be read"):
        load_state(tmp_path)


def test_a_real_optimizer_goes_on_as_if_never_stopped(tmp_path):
    def train(model, optimizer, num_steps):
        for _ in range(num_steps):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()

    def build():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    straight, straight_optimizer = build()
    train(straight, straight_optimizer, 6)
    first, first_optimizer = build()
    train(first, first_optimizer, 3)

    def write(folder: Path) -> None:
        moments = first_optimizer.state_dict()["state"]
        tensors = {f"{i}/{name}": value for i, entry in moments.items() for name, value in entry.items()}
        save_state(folder / "trainer_state", (tensors | first.state_dict()).items(), {"step": 3})

    folder = tmp_path / "step"
    folder.mkdir()
    write(folder)
    tensors, state = load_state(folder / "trainer_state")
    resumed, resumed_optimizer = build()
    resumed.load_state_dict({name: tensors[name] for name in resumed.state_dict()})
    whole = resumed_optimizer.state_dict()
    moments = {i: {name: tensors[f"{i}/{name}"] for name in ("step", "exp_avg", "exp_avg_sq")} for i in range(2)}
    resumed_optimizer.load_state_dict(whole | {"state": moments})
    train(resumed, resumed_optimizer, 6 - state["step"])
    assert all(same_bits(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
