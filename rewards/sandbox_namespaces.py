"""Tier 1's closed world: namespaces of its own, and a root in which there is Python's installation and nothing else.

Order matters. Root builds the new root while it may still read every file, and only then becomes an ordinary user
within a user namespace; anybody else enters the user namespace first, because only in there may they mount.
"""

import os
import socket
from pathlib import Path

from rewards import sandbox_kernel as kernel

BOX = "/box"  # where each program gets a disk of its own
WORK = f"{BOX}/work"
STDIN = f"{BOX}/stdin"

_WORLD = kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_NOBODY = 65534
_INSIDE = 1000  # the user's and the group's id as the program sees it
_MOUNT_POINT = "/tmp"


def enter_world(sources: list[str]) -> None:
    """Move this process, and its next child as process 1, into the closed world.

    Args:
        sources: absolute paths of files and folders that stay, for reading.

    Raises:
        OSError: the kernel forbids namespaces or mounts to this user.
    """
    as_root = os.geteuid() == 0 and _owns_mounts()
    self_folder = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    try:
        if as_root:
            _build_root(sources)
            _become_nobody()
            kernel.unshare(_WORLD)
            _map_user(self_folder, _NOBODY, _NOBODY)
        else:
            user, group = os.geteuid(), os.getegid()
            kernel.unshare(_WORLD | kernel.CLONE_NEWNS)
            _map_user(self_folder, user, group)
            _build_root(sources)
    finally:
        os.close(self_folder)
    socket.sethostname("sandbox")


def mount_box(size_bytes: int, num_files: int) -> None:
    """An empty disk of its own for the calling process; mounts made here die with it."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    options = f"size={size_bytes},nr_inodes={num_files},mode=755"
    kernel.mount("box", BOX, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    os.mkdir(WORK)


def _owns_mounts() -> bool:
    """Root outside of containers may mount at once; within one it is a user like any other."""
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
    except OSError:
        return False
    return True


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    kernel.process_control(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self, with the map of users, stays root's


def _map_user(self_folder: int, user: int, group: int) -> None:
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INSIDE} {user} 1"),
        ("gid_map", f"{_INSIDE} {group} 1"),
    ):
        descriptor = os.open(name, os.O_WRONLY, dir_fd=self_folder)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _build_root(sources: list[str]) -> None:
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    # Held open: the new root may be mounted over the folder that they are in.
    held = {path: os.open(path, os.O_PATH) for path in [*sources, *DEVICES] if os.path.exists(path)}
    try:
        kernel.mount("root", _MOUNT_POINT, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,nr_inodes=2k,mode=755")
        for path, descriptor in held.items():
            _bind(f"/proc/self/fd/{descriptor}", path)
    finally:
        for descriptor in held.values():
            os.close(descriptor)
    os.mkdir(_MOUNT_POINT + BOX)
    os.symlink(STDIN, f"{_MOUNT_POINT}/dev/stdin")
    if not os.path.lexists(f"{_MOUNT_POINT}/tmp"):  # else Python itself is installed beneath it, and stays to be read
        os.symlink(WORK, f"{_MOUNT_POINT}/tmp")
    kernel.change_root(_MOUNT_POINT)
    kernel.make_read_only("/", recursive=False)


def _bind(source: str, path: str) -> None:
    """The same path in the new root, for reading."""
    target = Path(_MOUNT_POINT + path)
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    kernel.mount(source, str(target), None, kernel.MS_BIND | kernel.MS_REC)
    kernel.make_read_only(str(target), recursive=True, devices=path in DEVICES)
