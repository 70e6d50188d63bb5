"""plan --from RUN: launches for an interval, from the spread of a published run; and what cannot tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from draftbench import bench
from draftbench.harness.errors import RecordError
from draftbench.harness.places import PUBLISHED
from draftbench.harness.suite import load_suite
from draftbench.reports.files import Run, read_run
from draftbench.reports.wanted import launches_table

ZOO = Path("suites/zoo.yaml")


@pytest.fixture(scope="module")
def zoo() -> Run:
    return read_run(PUBLISHED / "zoo-cpu")


def test_each_speedup_has_its_launches(zoo: Run) -> None:
    """Over all workloads first; a wider interval takes fewer, and one as wide as the run's own about as many."""
    headers, lines, counts = launches_table(zoo, load_suite(ZOO), 0.05)
    assert len(headers) == len(lines[0])
    assert [line[1] for line in lines[:8]] == ["over all"] * 8
    assert len(lines) == 8 * 6
    assert all(line[3] == "3" for line in lines)
    wider = launches_table(zoo, load_suite(ZOO), 0.2)[2]
    assert (wider["over all workloads"][0] or 0) < (counts["over all workloads"][0] or 1000)
    assert (counts["over all workloads"][0] or 0) <= (counts["every interval"][0] or 1000)
    row = next(row for row in zoo.rows if row.arm == "prism" and row.workload == "dialogue")
    assert row.speedup
    assert row.speedup_high
    own = launches_table(zoo, load_suite(ZOO), row.speedup_high / row.speedup - 1)[1]
    half = next(int(line[5]) for line in own if line[:2] == ["prism", "dialogue"])
    assert half in (3, 4)


def test_plan_tells_them_with_what_they_cost(capsys) -> None:
    """Time on so many devices, and device-hours of the suite as it is."""
    words = ["plan", str(ZOO), "--from", str(PUBLISHED / "zoo-cpu"), "--interval", "20%", "--devices", "2"]
    assert bench.main(words) == 0
    told = capsys.readouterr().out
    assert re.search(
        r"^over all workloads as narrow, as likely as not: \d+ launches, at most about .* on 2 devices$", told, re.M
    )
    assert re.search(r"^on 2 devices: at most about .*, 2 at work; 0\.\d\d device-hours$", told, re.M)


def test_devices_take_whole_launches(capsys) -> None:
    """Three launches on eight devices leave five idle, and take what one launch takes."""
    times = {}
    for devices in (1, 2, 3, 8):
        assert bench.main(["plan", str(ZOO), "--devices", str(devices)]) == 0
        told = capsys.readouterr().out.splitlines()[-1]
        minutes, seconds = re.findall(r"(\d+) min (\d+) s", told)[0]
        times[devices] = 60 * int(minutes) + int(seconds)
        assert ("3 of 8 at work: there are no more launches" in told) is (devices == 8)
    assert times[1] > times[2] > times[3] == times[8]
    assert times[2] == pytest.approx(times[1] * 2 / 3, rel=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "0"], "--devices is 0; allowed: 1 or more."),
        (
            ["--from", str(PUBLISHED / "quickstart-cpu")],
            "has 1 launches; what starts of engines differ by shows from 3 on",
        ),
        (["--from", "suites"], "holds no run"),
        (["--from", str(PUBLISHED / "zoo-cpu"), "--interval", "0%"], "--interval is 0%"),
    ],
)
def test_what_cannot_tell_is_told(words: list[str], said: str, capsys) -> None:
    """In a sentence, with exit code 2."""
    assert bench.main(["plan", str(ZOO), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_run_of_other_arms_or_another_target_is_refused(zoo: Run, tmp_path: Path) -> None:
    """It says nothing of the suite's speedups."""
    content = yaml.safe_load(ZOO.read_text())
    for arm in content["arms"][1:]:
        arm["name"] = f"other-{arm['name']}"
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RecordError, match="has no valid speedup of an arm, workload and load of this suite"):
        launches_table(zoo, load_suite(tmp_path / "suite.yaml"), 0.05)
    content["target"]["model"] = "owner/other"
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RecordError, match="is of the target tiny, the suite of owner/other"):
        launches_table(zoo, load_suite(tmp_path / "suite.yaml"), 0.05)
