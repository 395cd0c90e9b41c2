"""Tensors through shared memory: every byte as it was, and nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from grpo.engine.parcel import ALIGNMENT, Parcel, read_parcel, remove_stale
from grpo.errors import EngineError
from grpo.weights import fingerprint

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
)
SHAPES = ((3, 5), (1,), (), (0, 4), (2, 3, 7))


@pytest.fixture
def parcel(tmp_path: Path) -> Iterator[Parcel]:
    made = Parcel(tmp_path)
    yield made
    made.close()


def some_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bit pattern that the type has, NaNs among them."""
    count = torch.Size(shape).numel() * dtype.itemsize
    top = 2 if dtype is torch.bool else 256
    raw = torch.randint(0, top, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return raw.view(dtype).view(shape)


def raw(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_bit_of_every_type_and_shape_comes_back(parcel: Parcel, dtype: torch.dtype) -> None:
    sent = {f"tensor{shape}": some_bytes(dtype, shape) for shape in SHAPES}
    parcel.write(iter(sent.items()))
    came = dict(read_parcel(parcel.path))
    assert list(came) == list(sent)
    for name, tensor in sent.items():
        assert (came[name].dtype, came[name].shape) == (tensor.dtype, tensor.shape)
        assert raw(came[name]) == raw(tensor)
        assert parcel.hashes[name] == fingerprint(came[name])
        assert came[name].data_ptr() % ALIGNMENT == 0
    assert parcel.num_bytes == sum(tensor.nbytes for tensor in sent.values())


def test_views_that_are_not_contiguous_are_written_in_order(parcel: Parcel) -> None:
    matrix = torch.arange(12.0).view(3, 4)
    parcel.write(iter([("turned", matrix.t()), ("part", matrix[:, 1:3])]))
    came = dict(read_parcel(parcel.path))
    assert torch.equal(came["turned"], matrix.t())
    assert torch.equal(came["part"], matrix[:, 1:3])


def test_tensors_are_taken_one_at_a_time(parcel: Parcel) -> None:
    sizes = []

    def one_by_one() -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(3):
            yield f"{number}", torch.ones(1024)
            sizes.append(parcel.path.stat().st_size)

    parcel.write(one_by_one())
    assert sizes == sorted(sizes)
    assert sizes[0] < 2 * 4096 < sizes[2], "each is on its way before the next is asked for"


def test_a_second_write_replaces_the_first_in_the_same_file(parcel: Parcel) -> None:
    parcel.write(iter([("a", torch.zeros(1000)), ("b", torch.zeros(10))]))
    path = parcel.path
    parcel.write(iter([("c", torch.ones(3))]))
    assert parcel.path == path
    assert {name: tensor.tolist() for name, tensor in read_parcel(path)} == {"c": [1.0, 1.0, 1.0]}
    assert list(parcel.hashes) == ["c"]


def test_a_reader_that_writes_into_a_tensor_harms_no_other(parcel: Parcel) -> None:
    parcel.write(iter([("a", torch.zeros(4))]))
    dict(read_parcel(parcel.path))["a"].fill_(7)
    assert dict(read_parcel(parcel.path))["a"].tolist() == [0, 0, 0, 0]


def test_a_parcel_that_was_not_finished_is_refused(parcel: Parcel) -> None:
    parcel.write(iter([("a", torch.zeros(4))]))

    def interrupted() -> Iterator[tuple[str, torch.Tensor]]:
        yield "a", torch.ones(4)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        parcel.write(interrupted())
    assert parcel.hashes == {}
    with pytest.raises(EngineError, match="no finished parcel"):
        dict(read_parcel(parcel.path))


def test_too_little_room_is_refused_with_what_is_needed_and_what_is_free(small_disk: Path) -> None:
    parcel = Parcel(small_disk)
    tensors = [(f"t{number}", torch.ones(100_000)) for number in range(5)]  # 2 MB into 1 MiB
    with pytest.raises(EngineError, match=r"needs 20\d{5} bytes .* and 1048576 are free"):
        parcel.write(iter(tensors))
    parcel.write(iter(tensors[:2]))
    assert torch.equal(dict(read_parcel(parcel.path))["t1"], tensors[1][1]), "what fits goes through afterwards"
    parcel.close()


def test_closing_removes_the_file_and_may_be_repeated(tmp_path: Path) -> None:
    parcel = Parcel(tmp_path)
    parcel.write(iter([("a", torch.zeros(4))]))
    parcel.close()
    parcel.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_leaves_goes_with_the_next_start_and_nothing_else_does(tmp_path: Path) -> None:
    program = (
        "import sys, time, torch; from pathlib import Path; from grpo.engine.parcel import Parcel\n"
        "parcel = Parcel(Path(sys.argv[1])); parcel.write(iter([('a', torch.zeros(4))])); print(parcel.path)\n"
        "sys.stdout.flush(); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        assert str(owner.pid) in left.name
        remove_stale(tmp_path)
        assert left.exists(), "its owner lives"
        os.kill(owner.pid, signal.SIGKILL)
    (tmp_path / "another.file").touch()
    parcel = Parcel(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "another.file", parcel.path])
    parcel.close()
