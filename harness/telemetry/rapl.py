"""Energy of CPU packages and their memory through RAPL, as Linux shows it below /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from draftbench.harness.telemetry.sensor import DeviceSample, Sensor, Unreadable, why

POWERCAP = Path("/sys/class/powercap")


class RaplSensor:
    """One zone. Its counter wraps after minutes to hours, so every look counts on from the one before."""

    source: Literal["rapl"] = "rapl"

    def __init__(self, folder: Path, zone: str) -> None:
        self.name = f"{folder.name} {zone}"
        self.kind: Literal["cpu", "memory"] = "memory" if zone == "dram" else "cpu"
        self._folder = folder
        self._last_uj: int | None = None
        self._total_uj = 0

    def read(self) -> DeviceSample:
        """The counter without its wraps; most systems let only root read it."""
        now_uj = int((self._folder / "energy_uj").read_text())
        if self._last_uj is not None:
            self._total_uj += now_uj - self._last_uj
            if now_uj < self._last_uj:
                self._total_uj += int((self._folder / "max_energy_range_uj").read_text())
        self._last_uj = now_uj
        return DeviceSample(counter_j=self._total_uj / 1e6)


def rapl_sensors(powercap: Path = POWERCAP) -> tuple[Sensor, ...]:
    """Packages and their memory; cores and uncore are parts of a package, psys holds all of them.

    Containers may hide what the zones' links lead to; such a zone is unreadable, not absent.
    """
    sensors: list[Sensor] = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            zone = (folder / "name").read_text().strip()
        except OSError as error:
            sensors.append(Unreadable(folder.name, "cpu", why(error)))
            continue
        if zone.startswith("package") or zone == "dram":
            sensors.append(RaplSensor(folder, zone))
    return tuple(sensors)
