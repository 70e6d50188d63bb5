"""What an engine's processes leave on the host when they are killed: sockets, files and shared memory.

SGLang and Python's multiprocessing make them without a name of ours and delete them at a polite end only. Files go into
a folder of the engine's own, made to be its TMPDIR; shared memory is found while the processes still map it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
MADE_BY_ENGINES = ("sem.mp-", "sglang_", "psm_", "torch_")
"""How the names of semaphores and segments begin that multiprocessing, SGLang and torch make for one server alone."""


class Leftovers:
    """Of one engine; `folder` is its TMPDIR."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="draftbench-"))
        self._segments: set[Path] = set()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the engine. What torch compiled stays where the next engine finds it."""
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
        compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{user}")
        return {"TMPDIR": str(self.folder), "TORCHINDUCTOR_CACHE_DIR": compiled}

    def look(self, pids: Iterable[int]) -> None:
        """Note the shared memory that these processes map; before they are killed."""
        for pid in pids:
            with contextlib.suppress(OSError):
                mapped = Path(f"/proc/{pid}/maps").read_text()
                self._segments.update(map(Path, re.findall(rf" ({SHARED_MEMORY}/\S+)$", mapped, re.MULTILINE)))

    def remove(self) -> None:
        """Delete it all; after the processes have ended."""
        for segment in self._segments:
            if segment.name.startswith(MADE_BY_ENGINES):
                with contextlib.suppress(OSError):
                    segment.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
