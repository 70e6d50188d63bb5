"""Runs a program that a model wrote against its tests, by bubblewrap, where it can do no harm.

The program and the tests run in a sandbox each: no network, no process but itself, only Python's own files to read and
nothing to write, no capabilities, bounded time and memory, and a filter of system calls. See sandboxed.py for what
passes between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import IO

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads import sandboxed

TIME_S = 10
START_S = 60
"""Two interpreters start within this, on a busy machine too."""
INSTALL = "apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora, RHEL)"
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/nix/store")

# linux/audit.h, asm/unistd.h
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED_CALLS = {
    # Another process or thread; RLIMIT_NPROC does not count root's.
    "clone": (56, 220), "clone3": (435, 435), "fork": (57, None), "vfork": (58, None),
    # Namespaces and mounts, other processes, the kernel's own machines.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "mount_setattr": (442, 442), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
    "open_by_handle_at": (304, 265),
    # AF_VSOCK knows no network namespace.
    "socket": (41, 198),
    # Memory that stays when it is unmapped.
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "memfd_create": (319, 279),
}  # fmt: skip
"""System calls that fail, with their numbers on x86-64 and arm64."""


def run_isolated(
    program: str, tests: str = "", known: str = "", entry_point: str | None = None, time_s: float = TIME_S
) -> bool:
    """Whether a Python program loads and passes its tests.

    Args:
        tests: Python; names that they do not define are the program's.
        known: what the tests may rely on beside it, from the set and not from the model.
        entry_point: the function that they call, of the program's also where `known` begins it.

    Raises:
        WorkloadError: programs cannot be isolated on this host, so nothing was run.
    """
    job = json.dumps({"program": program, "tests": tests, "known": known, "entry_point": entry_point})
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(tempfile.TemporaryFile())
        given.write(job.encode())
        given.seek(0)
        # What the tests ask, what the program answers, what the tests say, and what bubblewrap complains of.
        (questions, ask), (answers, answer), (heard, say), (complaints, complain) = (_pipe(stack) for _ in range(4))
        numbers = (ask.fileno(), answers.fileno())
        with (
            _child("program", (), questions, answer, complain),
            _child("tests", numbers, given, say, complain),
        ):
            for end in (questions, ask, answers, answer, say, complain):
                end.close()
            said = _heard(heard.fileno(), time_s)
        if not said:
            raise WorkloadError(_refusal((complaints.read(2000) or b"").decode(errors="replace")))
    return said == sandboxed.STARTED + sandboxed.PASSED


def check_isolation() -> None:
    """Find out whether programs can be isolated on this host, by one that does nothing.

    Raises:
        WorkloadError: they cannot.
    """
    run_isolated("")


def _refusal(complaints: str) -> str:
    why = next(iter(complaints.splitlines()), "the sandbox did not start")
    return (
        f"programs of models cannot be isolated on this host ({why}), so none was run. "
        "bubblewrap needs user namespaces: allow them (sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns; a container needs a seccomp profile that permits unshare and "
        "mount), or leave run_programs out."
    )


def _pipe(stack: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """A pipe's end to read from, and the one to write to."""
    read, write = os.pipe()
    return stack.enter_context(FileIO(read, "r")), stack.enter_context(FileIO(write, "w"))


@contextlib.contextmanager
def _child(role: str, numbers: tuple[int, ...], given: IO[bytes], said: FileIO, complaints: FileIO) -> Iterator[None]:
    """One side in its sandbox, which ends with the block."""
    with contextlib.ExitStack() as stack:
        calls, write = _pipe(stack)
        write.write(call_filter())
        write.close()
        process = subprocess.Popen(
            [*command(calls.fileno()), role, *map(str, numbers)],
            stdin=given,
            stdout=said,
            stderr=complaints,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=(calls.fileno(), *numbers),
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def command(filter_file: int) -> list[str]:
    """What starts Python in a sandbox.

    Args:
        filter_file: number of the open file that holds the system call filter.

    Raises:
        WorkloadError: bubblewrap is not installed.
    """
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise WorkloadError(
            f"programs of models are run by bubblewrap, which is not installed, so none was run: {INSTALL}. "
            "Or leave run_programs out."
        )
    packages = [path for path in sys.path if Path(path).name == "site-packages" and Path(path).is_dir()]
    shown = [*SYSTEM, sys.prefix, sys.base_prefix, *packages]
    binds = [word for path in dict.fromkeys(shown) if os.path.exists(path) for word in ("--ro-bind", path, path)]
    return [
        bubblewrap,
        *("--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
        *("--die-with-parent", "--as-pid-1", "--seccomp", str(filter_file)),
        *binds,
        *("--ro-bind", sandboxed.__file__, "/sandboxed.py", "--dev-bind", os.devnull, os.devnull),
        *("--remount-ro", "/", "--chdir", "/"),
        *(sys.executable, "-I", "/sandboxed.py"),
    ]


def call_filter() -> bytes:
    """The kernel's program (classic BPF) that makes the refused system calls fail with EPERM.

    Raises:
        WorkloadError: this machine's system calls have other numbers.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise WorkloadError(
            f"programs of models cannot be isolated on {machine}, only on {known}; leave run_programs out."
        )
    column = list(ARCHITECTURES).index(machine)
    numbers = [calls[column] for calls in REFUSED_CALLS.values() if calls[column] is not None]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    kill, fail, allow = 0x80000000, 0x00050001, 0x7FFF0000
    lines = [
        (load, 0, 0, 4), (equal, 1, 0, ARCHITECTURES[machine]), (give, 0, 0, kill),
        (load, 0, 0, 0), (at_least, len(numbers) + 1, 0, 0x40000000),  # x32's numbers
        *((equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (give, 0, 0, allow), (give, 0, 0, fail),
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _heard(file: int, time_s: float) -> bytes:
    """The two words of the tests' process, as far as they come: both sides start at leisure, and then time counts."""
    said = b""
    deadline = time.monotonic() + START_S
    while len(said) < 2 and select.select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(file, 1)
        if not piece:
            break
        said += piece
        deadline = time.monotonic() + time_s
    return said
