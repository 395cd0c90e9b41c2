"""Waiting for what will never come. Every wait here has an end, and a message that says for whom it was."""

import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from grpo.datatypes import Completion
from grpo.engine.protocol import Request, Sampling
from grpo.engine.server_client import RefusedError, ServerClient, ServerGoneError
from grpo.engine.transformers_engine import TransformersEngine
from grpo.errors import EngineError, LearnerError
from grpo.learner.team import Membership, join, leave
from grpo.recipe.schema import Parallel
from tests.factories import make_prompt, make_recipe
from tests.immunity.runs import learner_of, make_trainer, run_recipe
from tests.unit.test_server_engine import serving

WINDOW = 16


def test_a_server_that_never_finishes_a_weight_update_is_given_up_by_name() -> None:
    released = threading.Event()
    with serving({"/update_weights": lambda: (200, b"{}" if released.wait(30) else b"")}) as site:
        client = ServerClient(site.address, command="", patience_s=0.3)
        with pytest.raises(ServerGoneError, match=f"{client.name} does not answer: .*timed out"):
            client.update({"names": []})
        released.set()


def test_a_server_that_refuses_a_weight_update_is_heard_with_its_reason() -> None:
    replies = {"/update_weights": (500, b'{"error": "shape mismatch in lm_head.weight"}'), "/health": (200, b"")}
    with serving(replies) as site, pytest.raises(RefusedError, match=r"500 .*shape mismatch in lm_head\.weight"):
        site.client.update({"names": []})


def test_a_group_that_never_gets_all_its_answers_ends_the_run_by_its_ordinal(
    dense_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_trainer(tmp_path / "run", dense_folder, run_recipe())
    assert len(run.rollout.sample([0, 1])) == 2
    drive = TransformersEngine._drive

    def losing_one(self: TransformersEngine, requests: Sequence[Request]) -> Iterator[Completion]:
        yield from list(drive(self, requests))[1:]

    monkeypatch.setattr(TransformersEngine, "_drive", losing_one)
    with pytest.raises(EngineError, match="1 of 4 groups are incomplete: the engine lost answers .* at ordinals"):
        run.train()
    run.folder.close()


def test_a_process_that_never_comes_to_a_collective_is_missed_in_time() -> None:
    recipe = make_recipe().model_copy(update={"parallel": Parallel(shard=2, timeout_s=1.0)})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with pytest.raises(LearnerError, match=f"learner rank 0 did not meet the other 1 at {address} within 1 s"):
        join(recipe, Membership(rank=0, address=address), device="cpu")
    leave()


def test_a_prompt_longer_than_the_engines_window_is_refused_before_anything_waits_for_it(dense_folder: Path) -> None:
    model = learner_of(dense_folder, make_recipe()).policy.model
    engine = TransformersEngine(model, rollout=make_recipe().rollout, decode=str, max_model_len=WINDOW)
    prompt = make_prompt(token_ids=range(2, 2 + WINDOW))
    request = Request(prompt=prompt, sample_index=0, seed=0, sampling=Sampling(max_tokens=4))
    with pytest.raises(EngineError, match=f"has {WINDOW} tokens; the engine's window of {WINDOW} tokens holds prompts"):
        engine.sample([request])
