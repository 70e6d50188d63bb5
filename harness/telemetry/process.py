"""What the harness and one engine take of the host: processor time and resident memory."""

from __future__ import annotations

import time

import psutil

from draftbench.harness.telemetry.sensor import why
from draftbench.harness.telemetry.window_records import ProcessUsage


class ProcessWatch:
    """The harness and an engine's process tree, from its making until `usage` but for pauses; all on the same thread.

    The tree is listed once: an engine that is ready has started all its processes.
    """

    def __init__(self, pid: int) -> None:
        self._reason: str | None = None
        self._peak_bytes = 0
        self._client_s = self._engine_s = self._busy_s = self._watched_s = 0.0
        try:
            root = psutil.Process(pid)
            self._tree = [root, *root.children(recursive=True)]
        except psutil.Error as error:
            self._reason = why(error)
        self.resume()

    def resume(self) -> None:
        """Count from here on."""
        self._counting = True
        psutil.cpu_percent()  # the next call on this thread tells the share since this one
        self._resumed_s = time.monotonic()
        self._client_s -= time.process_time()
        self._engine_s -= self._engine_cpu_s()

    def pause(self) -> None:
        """Count until here."""
        self._counting = False
        self._engine_s += self._engine_cpu_s()
        self._client_s += time.process_time()
        lasted_s = time.monotonic() - self._resumed_s
        self._busy_s += lasted_s * psutil.cpu_percent() / 100
        self._watched_s += lasted_s

    def _engine_cpu_s(self) -> float:
        if self._reason is None:
            try:
                return _cpu_s(self._tree)
            except psutil.Error as error:
                self._reason = why(error)
        return 0.0

    def look(self) -> None:
        """Note the engine's resident memory."""
        if self._reason is None:
            try:
                self._peak_bytes = max(self._peak_bytes, _resident_bytes(self._tree))
            except psutil.Error as error:
                self._reason = why(error)

    def usage(self) -> ProcessUsage:
        """What was used."""
        if self._counting:
            self.pause()
        known = self._reason is None
        return ProcessUsage(
            client_cpu_s=self._client_s,
            engine_cpu_s=self._engine_s if known else None,
            engine_peak_rss_bytes=self._peak_bytes if known else None,
            host_cpu_share=self._busy_s / self._watched_s if self._watched_s else 0.0,
            reason=self._reason,
        )


def _cpu_s(tree: list[psutil.Process]) -> float:
    """Processor seconds of a tree; a child that ended since is counted by the parent that waited for it.

    Raises:
        psutil.NoSuchProcess: its root ended.
    """
    root, *children = tree
    if root.status() == psutil.STATUS_ZOMBIE:
        raise psutil.ZombieProcess(root.pid)
    total = sum(root.cpu_times()[:4])
    for child in children:
        try:
            total += sum(child.cpu_times()[:4])  # user, system, and both of children that were waited for
        except psutil.NoSuchProcess:
            continue
    return float(total)


def _resident_bytes(tree: list[psutil.Process]) -> int:
    """Resident memory of a tree; pages that processes share count for each of them."""
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            if process is tree[0]:
                raise
    return total
