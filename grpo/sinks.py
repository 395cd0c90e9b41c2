"""Where metrics go: lines of the run folder always, and the trackers that ``log.report_to`` names.

Each tracker's package is imported only where its sink is made. A tracker that fails during the run is left out from
then on and said once: no curve on a dashboard is worth a run, and ``metrics.jsonl`` has every number.
"""

import contextlib
import importlib.util
import io
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from grpo.errors import MissingPackageError, RunError, UserError
from grpo.metrics import Sink
from grpo.recipe import Recipe

MODULES = {"wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboard"}  # tracker, what it is imported as


class Lines(Protocol):
    """What ``JsonlSink`` writes to: the run folder's ``metrics``."""

    def append(self, record: Mapping[str, object]) -> None: ...


class JsonlSink:
    """One line per call: ``{"step": 3, "reward": 0.5, ...}``. NaN and infinities are null there."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.append({"step": step, **values})

    def close(self) -> None:
        pass  # the file belongs to the run folder


def trackers(recipe: Recipe, folder: Path, *, next_step: int, report: Callable[[str], None]) -> list[Sink]:
    """A sink for each name in ``log.report_to``.

    Args:
        folder: the run folder.
        next_step: the first step that is not part of the run yet; what a tracker shows of it and of later ones comes
            from before a crash, and will come again.
        report: is told, in a sentence, of a tracker that failed and is left out.

    Raises:
        MissingPackageError: a tracker's package is not installed.
        UserError: a tracker refused to start, for want of a login or of a network, say.
    """
    log, config = recipe.log, recipe.model_dump()
    made: list[Sink] = []
    for name in dict.fromkeys(log.report_to):
        _check_installed(name)
        sink: Sink
        if name == "tensorboard":
            sink = TensorboardSink(folder, next_step=next_step)
        elif name == "wandb":
            sink = WandbSink(folder, project=log.project, mode=log.wandb_mode, config=config)
        else:
            sink = TrackioSink(folder, project=log.project, config=config)
        made.append(Expendable(sink, name, report))
    return made


def _check_installed(name: str) -> None:
    if importlib.util.find_spec(MODULES[name]) is None:
        raise MissingPackageError(
            f"recipe key 'log.report_to' names {name}, whose package is not installed. Install it with "
            f"`pip install 'grpo[{name}]'`, or take {name} out of log.report_to"
        )


class Expendable:
    """A sink that the run can do without: at its first error it is said to be left out, and left out."""

    def __init__(self, sink: Sink, name: str, report: Callable[[str], None]) -> None:
        self._sink: Sink | None = sink
        self._name, self._report = name, report

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._try(f"from step {step} on", lambda sink: sink.log(step, values))

    def close(self) -> None:
        self._try("at its end", lambda sink: sink.close())
        self._sink = None

    def _try(self, since: str, call: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            call(self._sink)
        except Exception as error:  # somebody else's package, disk or network may raise anything
            self._sink = None
            self._report(
                f"{self._name} is left out {since} ({type(error).__name__}: {error}); the run goes on, and "
                "metrics.jsonl in its folder has every number"
            )


class TensorboardSink:
    """Event files in ``tensorboard/`` of the run folder: ``tensorboard --logdir runs`` shows all runs.

    A resumed run has TensorBoard forget the steps from ``next_step`` on, which it writes again.
    """

    def __init__(self, folder: Path, *, next_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # its methods have no types in torch 2.13
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=next_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """Weights & Biases.

    wandb's own files go to ``wandb/`` in the run folder. A resumed run goes on in the same wandb run, and what that
    has already is not sent again: the repeated values are the same.

    Args:
        config: shown beside the run, the recipe say.
    """

    def __init__(self, folder: Path, *, project: str, mode: str, config: Mapping[str, object]) -> None:
        import wandb

        self._sent = _Sent(folder / "wandb.json")
        try:
            self._run = wandb.init(
                project=project,
                mode="online" if mode == "online" else "offline",
                dir=str(folder),
                id=self._sent.run_id,
                name=folder.name,
                config=dict(config),
                resume="allow" if mode == "online" else None,  # offline runs of one id are joined by `wandb sync`
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"recipe key 'log.report_to' names wandb, which did not start ({error}). Run `wandb login`, or set "
                "log.wandb_mode=offline and `wandb sync` the run later"
            ) from error

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._sent.pass_on(step, values, self._run.log)

    def close(self) -> None:
        self._run.finish()


class TrackioSink:
    """Trackio: in its own folder on this machine (``trackio show``), or where TRACKIO_SPACE_ID or its like point.

    Its run is named after the run folder, with an id of its own, for two folders may bear one name. A resumed run goes
    on in it, and what it has already is not sent again. It writes twice a second: a kill can cost it a step, which
    ``metrics.jsonl`` has.
    """

    def __init__(self, folder: Path, *, project: str, config: Mapping[str, object]) -> None:
        import trackio

        self._finish: Callable[[], None] = trackio.finish  # its own, for the run's would be called once more at exit
        self._sent = _Sent(folder / "trackio.json")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # how its dashboard is opened, in four lines
                self._run = trackio.init(
                    project=project,
                    name=f"{folder.name}-{self._sent.run_id}",
                    config=dict(config),
                    resume="allow",
                    embed=False,
                    auto_log_cpu=False,
                    auto_log_gpu=False,
                )
        except (ValueError, OSError) as error:
            raise UserError(
                f"recipe key 'log.report_to' names trackio, which did not start ({error}). Mend log.project = "
                f"'{project}' or trackio's settings, or take it out of log.report_to"
            ) from error

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._sent.pass_on(step, values, self._run.log)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._finish()


class _Sent:
    """What a tracker has of a run, in a file of the run folder: its id there, the last step, and that step's names.

    Raises:
        RunError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        state: dict[str, Any] = {}
        try:
            if path.exists():
                state = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"cannot read {path}: {error}. Remove it, and the tracker begins a run of its own"
            ) from error
        self.run_id: str = state.get("id") or secrets.token_hex(4)
        self._step, self._names = int(state.get("step", -1)), set(state.get("names", ()))

    def pass_on(self, step: int, values: Mapping[str, float], log: Callable[..., object]) -> None:
        """Log those of the values that it does not have; a step may come in several calls."""
        if new := self._not_yet(step, values):
            log(dict(new), step=step)  # a copy: a tracker may keep what it is given
            self._add(step, new)

    def _not_yet(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        if step != self._step:
            return dict(values) if step > self._step else {}
        return {name: value for name, value in values.items() if name not in self._names}

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        self._names = {*values} | (self._names if step == self._step else set())
        self._step = step
        state = {"id": self.run_id, "step": step, "names": sorted(self._names)}
        beside = self._path.with_suffix(".tmp")
        beside.write_text(json.dumps(state), encoding="utf-8")
        os.replace(beside, self._path)
