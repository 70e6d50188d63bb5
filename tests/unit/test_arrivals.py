"""When an open loop's requests arrive."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev

import pytest

from draftbench.harness.errors import SuiteError, WorkloadError
from draftbench.harness.load.arrivals import arrival_times
from draftbench.harness.suite import LoadPoint
from draftbench.harness.suite.trace import read_trace


def times(seed: int = 0, workload: str = "w", count: int = 4000, **point: object) -> tuple[float, ...]:
    found = arrival_times(LoadPoint.model_validate(point), workload, count, seed)
    assert found is not None
    return found


def test_a_closed_loop_has_no_arrivals() -> None:
    """Requests follow answers."""
    assert arrival_times(LoadPoint(concurrency=4), "w", 8, 0) is None


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    """One for each prompt, the first at 0; gaps of an exponential law have a spread as large as their mean."""
    found = times(rate=4.0)
    gaps = [after - before for before, after in pairwise(found)]
    assert (len(found), found[0]) == (4000, 0.0)
    assert fmean(gaps) == pytest.approx(0.25, rel=0.05)
    assert stdev(gaps) == pytest.approx(fmean(gaps), rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 3, 24])
def test_few_requests_have_the_rate_too(count: int) -> None:
    """Of any number of requests the mean gap is what the suite says; chance only says where they lie between."""
    found = times(count=count, rate=4.0)
    assert found == tuple(sorted(found))
    assert (found[0], found[-1]) == (0.0, pytest.approx((count - 1) / 4))


def test_arrivals_are_drawn_once() -> None:
    """The same for every arm and block, others for another seed or workload; a higher rate presses them together."""
    assert times(rate=4.0) == times(rate=4.0)
    assert times(rate=4.0) != times(seed=1, rate=4.0)
    assert times(rate=4.0) != times(workload="v", rate=4.0)
    assert times(rate=8.0) == pytest.approx([at_s / 2 for at_s in times(rate=4.0)])


def test_bursts_arrive_together_at_the_same_mean_rate() -> None:
    """20 requests in groups of 8 are two whole groups and a half one."""
    found = times(count=20, rate=4.0, burst=8)
    assert [found.count(at_s) for at_s in sorted(set(found))] == [8, 8, 4]
    assert times(rate=4.0, burst=8)[-1] == pytest.approx(499 * 8 / 4)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_a_trace_gives_the_times_from_its_first_arrival(tmp_path: Path) -> None:
    """Other keys are left alone; as many prompts are sent as there are arrivals."""
    path = write(tmp_path / "t.jsonl", '{"at_s": 100, "user": "a"}', '{"at_s": 100.5}', '{"at_s": 100.5}')
    assert times(count=5, trace=str(path)) == (0.0, 0.5, 0.5)


def test_prompts_are_never_repeated(tmp_path: Path) -> None:
    """A trace with more arrivals than there are prompts is refused with both counts."""
    path = write(tmp_path / "t.jsonl", *(json.dumps({"at_s": second}) for second in range(3)))
    with pytest.raises(WorkloadError, match="has 3 arrivals, workload w 2 prompts; prompts are not repeated"):
        times(count=2, trace=str(path))


@pytest.mark.parametrize(
    "line", ["", "0.5", "{", '{"at": 1}', '{"at_s": "1"}', '{"at_s": -1}', '{"at_s": true}', '{"at_s": NaN}',
             '{"at_s": 0.1}'],
)  # fmt: skip
def test_bad_lines_of_a_trace_are_told(tmp_path: Path, line: str) -> None:
    """With file, line, and what a line has to be; going back in time is bad too."""
    path = write(tmp_path / "t.jsonl", '{"at_s": 0.2}', line)
    with pytest.raises(SuiteError) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert 'each line is an object with at_s, in seconds and not before the line above: {"at_s": 0.25}' in str(
        caught.value
    )


def test_a_trace_without_an_arrival_is_told(tmp_path: Path) -> None:
    """So is one that cannot be read."""
    with pytest.raises(SuiteError, match="there is no arrival in it"):
        read_trace(write(tmp_path / "t.jsonl"))
    with pytest.raises(SuiteError, match="is not a regular file"):
        read_trace(tmp_path)
