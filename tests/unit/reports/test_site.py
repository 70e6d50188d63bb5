"""The page over runs: every run's rows in one table; what does not count is shown, named, and takes no place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from draftbench import bench
from draftbench.harness.errors import RecordError
from draftbench.harness.places import PUBLISHED
from draftbench.harness.store import RunStore
from draftbench.reports.files import write_results
from draftbench.reports.site import FoundRuns, entries, find_runs
from draftbench.reports.site_page import render_site, write_site
from tests.fakes.known import rewritten


@pytest.fixture
def runs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of them deeper down, and a hidden one that is being written."""
    write_results(run)
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "lab/two", ".three.partial"):
        shutil.copytree(run, folder / name)
    with rewritten(folder / "lab/two") as manifest:
        manifest["host"] = {"gpu": "NVIDIA <b>H200</b>", "cpu": "Xeon"}
    write_results(folder / "lab/two")
    return folder


def page_of(folder: Path, out: Path) -> str:
    return write_site(folder, out, "runs")[0].read_text()


def test_every_run_is_on_the_page_with_a_link_to_its_report(runs: Path, tmp_path: Path) -> None:
    """Reports lie beside it, so that the folder can be served as it is; one that is there already is linked."""
    text = page_of(runs, tmp_path / "out")
    links = re.findall(r'<a href="([^"]+)"', text)
    assert set(links) == {"one/report.html", "lab/two/report.html"}
    assert all((tmp_path / "out" / link).is_file() for link in links)
    assert set(re.findall(r'<a href="([^"]+)"', page_of(runs, runs))) == set(links)
    assert sorted(path.name for path in runs.iterdir()) == [".three.partial", "index.html", "lab", "one"]


def test_a_row_has_its_figures_and_baselines_have_none(runs: Path, tmp_path: Path) -> None:
    """Two drafts of two runs; the table is there without the script that sorts it."""
    text = page_of(runs, tmp_path)
    assert text.count('<tr id="row') == 4
    assert '<td class="n" data-label="τ" data-value="3.0">3.00</td>' in text
    assert '<form id="filters" hidden>' in text
    assert '<option value="=c=1">c=1</option>' in text


def test_names_of_others_are_text(runs: Path, tmp_path: Path) -> None:
    """A device's name with markup in it is escaped wherever it stands."""
    text = page_of(runs, tmp_path)
    assert "<b>" not in text
    assert text.count("NVIDIA &lt;b&gt;H200&lt;/b&gt;") > 2


def test_the_page_needs_no_network_and_runs_no_other_script(runs: Path, tmp_path: Path) -> None:
    """One script, whose hash its policy names; no address but links to reports."""
    text = page_of(runs, tmp_path)
    assert "default-src 'none'" in text
    assert text.count("<script>") == 1
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert text == page_of(runs, tmp_path)


def test_invalid_rows_are_shown_and_take_no_place(run, runs, tmp_path, request_record, cell_record) -> None:
    """Struck through with the reason, last of their kind, and in no figure."""
    store = RunStore(runs / "one")
    failed = request_record(arm="eagle", block=2, error="lost")
    store.append(failed)
    store.append(cell_record(failed, num_failed=1))
    write_results(runs / "one")
    found = find_runs(runs)
    lines = entries(found.shown)
    out = [entry for entry in lines if entry.out]
    assert [(entry.run, entry.arm) for entry in out] == [("one", "eagle")]
    assert out[0].out.startswith("invalid: failures")
    text = render_site("runs", found, dict.fromkeys(("one", "lab/two"), "#"))
    assert text.count('class="invalid"') == 1
    assert "speedup-by-length-dot" in text
    number = re.search(r'<tr id="row(\d+)" class="invalid"', text)
    assert number is not None
    assert f'id="speedup-by-length-dot{number[1]}"' not in text


def test_a_run_whose_report_was_changed_is_marked(runs: Path, tmp_path: Path, capsys) -> None:
    """By name, with the place; its rows take no place, and the command says so by its exit code."""
    report = runs / "one" / "report.md"
    report.write_text(report.read_text().replace("66.7", "86.7", 1))
    found = find_runs(runs)
    assert {entry.run for entry in entries(found.shown) if entry.out} == {"one"}
    assert bench.main(["site", str(runs), "--out", str(tmp_path / "out")]) == 1
    assert "does not verify: one: report.md:" in capsys.readouterr().out
    assert "Does not verify, so its rows take no place" in (tmp_path / "out" / "index.html").read_text()


def test_a_damaged_run_is_named_and_the_others_are_shown(runs: Path, tmp_path: Path, capsys) -> None:
    """Binary where a manifest should be, and a version that nobody reads."""
    (runs / "one" / "manifest.json").write_bytes(b"\xff\xfe")
    shutil.copytree(runs / "lab/two", runs / "new")
    with rewritten(runs / "new") as manifest:
        manifest["version"] = 7
    assert bench.main(["site", str(runs), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().out
    assert "left out: one:" in told
    assert "left out: new:" in told
    assert "version is 7" in told
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count('<tr id="row') == 2
    assert "<h2>Left out</h2>" in text


@pytest.mark.parametrize("damage", [False, True])
def test_a_folder_without_a_run_is_a_sentence(tmp_path: Path, damage: bool, capsys) -> None:
    """Nothing is written; where there are runs, but none that can be read, each has its reason."""
    if damage:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "manifest.json").write_text("{}")
    assert bench.main(["site", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert ("no run below" if damage else "there is no run below") in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_another_run_that_lies_where_a_report_would_go_is_left_alone(runs: Path, tmp_path: Path) -> None:
    """It is refused by its place."""
    shutil.copytree(runs / "one", tmp_path / "out" / "one")
    with pytest.raises(RecordError, match="holds another run"):
        write_site(runs, tmp_path / "out", "runs")


def test_published_runs_stand_on_one_page_and_what_ifs_are_marked() -> None:
    """Over all workloads first; simulated acceptance is told beside the arm, and its points are hollow."""
    found = find_runs(PUBLISHED / "paper-worth-h200")
    assert [shown.mismatch for shown in found.shown] == [None]
    lines = entries(found.shown)
    assert [entry.workload for entry in lines[:3]] == ["all 6"] * 3
    assert all(entry.is_simulated and "simulated" not in entry.arm for entry in lines)
    text = render_site("runs", FoundRuns(found.shown, ()), {"paper-worth-h200": "#"})
    assert text.count("<small>simulated acceptance</small>") == len(lines)
    assert "hollow: what-if" in text


def test_an_arm_is_called_the_fastest_where_it_is_shown(run: Path, runs: Path, request_record, cell_record) -> None:
    """Two close drafts: none of them; a third block in which one failed leaves the other alone ahead of vanilla."""
    assert not [entry for entry in entries(find_runs(runs).shown) if entry.fastest]
    store = RunStore(runs / "one")
    failed = request_record(arm="eagle", block=2, error="lost")
    store.append(failed)
    store.append(cell_record(failed, num_failed=1))
    write_results(runs / "one")
    fastest = [(entry.run, entry.arm) for entry in entries(find_runs(runs).shown) if entry.fastest]
    assert fastest == [("one", "hass")]
