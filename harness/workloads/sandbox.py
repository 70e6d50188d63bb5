"""Runs a program that a model wrote where it can do no harm: no network, nothing to write to, no process to reach.

The module is its own child: `python -I sandbox.py` reads the program from its standard input, moves into namespaces
of its own and says that the program came to its end by a word that it alone was told: a program that leaves by itself,
with whatever exit code, has not passed. It therefore imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import signal
import subprocess
import sys

TIME_S = 10
MEMORY_BYTES = 1 << 30
NOT_ISOLATED = 72
"""Exit code of a child that could not be isolated."""

# linux/sched.h, linux/mount.h, linux/prctl.h, asm-generic/unistd.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
MS_REC, MS_PRIVATE, PR_SET_PDEATHSIG = 0x4000, 0x40000, 1
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 0x1, 442


def run_isolated(program: str, time_s: float = TIME_S) -> bool:
    """Whether a Python program ends without an error.

    Raises:
        WorkloadError: this host does not let a user isolate a process, so nothing was run.
    """
    from draftbench.harness.errors import WorkloadError

    word = secrets.token_hex(16)
    child = subprocess.Popen(
        [sys.executable, "-I", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(f"{word}\n{program}".encode("utf-8", "surrogatepass"), timeout=time_s)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode == NOT_ISOLATED:
        raise WorkloadError(
            f"programs of models cannot be isolated on this host ({said.decode(errors='replace').strip()}), so none "
            "was run; allow unprivileged user namespaces, or leave run_programs out."
        )
    return said == word.encode()


def isolate() -> None:
    """Go on in a process that has no network, reaches no other process and finds every file read-only; limit its use.

    Raises:
        OSError: the kernel does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID), "unshare")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")
    read_only = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY)
    arguments = (SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(read_only), ctypes.sizeof(read_only))
    check(libc.syscall(*arguments), "read-only mounts")
    # Only a child is in the new namespace of processes; when it ends, or its parent is killed, so do its own children.
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    for limit, value in (
        (resource.RLIMIT_CPU, TIME_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """The child: read, isolate, run, and leave without what the program may have registered for the end."""
    word, _, program = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").partition("\n")
    report = os.dup(1)
    try:
        isolate()
    except OSError as error:
        os.write(report, str(error).encode())
        os._exit(NOT_ISOLATED)
    # What the program prints goes nowhere: nobody has to keep it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        exec(compile(program, "answer.py", "exec"), {"__name__": "answer"})
    except BaseException:
        os._exit(1)
    os.write(report, word.encode())
    os._exit(0)


if __name__ == "__main__":
    main()
