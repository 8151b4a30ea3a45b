"""Confinement of a process as in LXC containers: a refused system call, a user namespace."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

OPEN_BY_HANDLE_AT = {"x86_64": 304, "aarch64": 265}.get(platform.machine())
KEYCTL = {"x86_64": 250, "aarch64": 219}.get(platform.machine())

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
# Classic BPF: load the number of the call, compare it, return.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_CLONE_NEWUSER = 0x10000000
# Users from 0 on are those from 100000 on outside, as Proxmox maps them.
_MAP = b"0 100000 65536"


def refuse_open_by_handle_at() -> None:
    """Let this process and its children get EPERM from open_by_handle_at."""
    refuse(OPEN_BY_HANDLE_AT, errno.EPERM)


def refuse(number: int | None, error: int) -> None:
    """Let this process and its children get an error from a system call."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, 0),
            (_JUMP_IF_EQUAL, 0, 1, number),
            (_RETURN, 0, 0, _ERROR | error),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "cannot install a seccomp filter")


def enter_user_namespace() -> None:
    """Become root of a user namespace, as in an unprivileged container; only root can."""
    process = os.getpid()
    unshared, mapped = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.read(unshared[0], 1)
        for name in ("gid_map", "uid_map"):
            Path(f"/proc/{process}/{name}").write_bytes(_MAP)
        os.write(mapped[1], b".")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "cannot create a user namespace")
    os.write(unshared[1], b".")
    os.read(mapped[0], 1)
    os.wait()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
