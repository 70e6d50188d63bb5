"""What a report says of energy, of the machine over time, and of how drafts were trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from draftbench.harness.records import CellRecord
from draftbench.harness.store import FILES, RunStore, read_records
from draftbench.harness.telemetry.window_records import DeviceReading, ProcessUsage, WindowRecord
from draftbench.reports.files import read_run, write_results
from draftbench.reports.plots import draw_figures
from draftbench.reports.verify import verify

USAGE = ProcessUsage(client_cpu_s=0.1, engine_cpu_s=1.0, engine_peak_rss_bytes=1, host_cpu_share=0.5, reason=None)


@pytest.fixture
def gpu_run(run: Path) -> Path:
    """The small run on one GPU: 400 J in each cell's 40 s, 5 W at rest."""
    store = RunStore(run)
    cells = [record.cell for record in read_records(run / FILES[CellRecord], CellRecord)]
    for number, cell in enumerate([None, *cells]):
        device = DeviceReading(
            name="GPU 0", kind="gpu", source="nvml energy counter", energy_j=400.0 if cell else 50.0, num_samples=9,
            mean_power_w=10.0 if cell else 5.0, mean_sm_clock_mhz=1900.0 + number, reasons={},
        )  # fmt: skip
        began_s, took_s = (0, 10) if cell is None else (10 + 40 * (number - 1), 40)
        store.append(
            WindowRecord(
                launch=0, arm="vanilla" if cell is None else cell.arm, cell=cell, started_ns=began_s * 10**9,
                finished_ns=(began_s + took_s) * 10**9, devices=(device,), processes=USAGE, telemetry_cpu_s=0.0,
            )
        )  # fmt: skip
    return run


def test_joules_stand_in_the_table_and_in_a_figure(gpu_run: Path) -> None:
    """400 J for 4 tokens, of which 200 J are the engine at rest; power and clocks are drawn over the run."""
    text = write_results(gpu_run).read_text()
    row = next(line for line in text.splitlines() if line.startswith("| eagle"))
    assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["100.000", "50.000"]
    kinds = {plot.kind for plot in draw_figures(read_run(gpu_run).rows)}
    assert {"energy", "machine"} <= kinds
    over_time = read_run(gpu_run).rows[1].over_time
    assert [cell.at_s for cell in over_time] == [70.0, 190.0]
    assert not verify(gpu_run).mismatches


def test_without_telemetry_there_is_no_column(run: Path) -> None:
    """Missing is not zero."""
    assert "J/token |" not in write_results(run).read_text()
    assert {plot.kind for plot in draw_figures(read_run(run).rows)}.isdisjoint({"energy", "machine"})


def test_training_is_told_or_unknown(run: Path) -> None:
    """Ledgers become a line each, with the tree and how it was found; a checkpoint without one says so."""
    ledger = {
        "data": {"corpus_sha256": "abcdef0123", "num_tokens": 433053},
        "budget": {"num_steps": 300, "learning_rate": 0.006, "seed": 0},
        "num_entries_seen": 1843200,
        "training_flops": 2.08e13,
        "num_trained_parameters": 492032,
        "num_active_parameters": [246000, 246016],
        "learning_rates": [{"rate": 0.003}, {"rate": 0.006}],
    }
    path = run / "manifest.json"
    manifest = json.loads(path.read_text()) | {"training": {"eagle": ledger, "hass": None}}
    tree = {"num_steps": 3, "topk": 1, "num_draft_tokens": 4}
    tuning = {"configurations": 6, "prompts_sha256": "00", "run": "tune-try"}
    manifest["suite"]["arms"].append({"name": "looked-up", "architecture": "ngram", **tree, "tuning": tuning})
    path.write_text(json.dumps(manifest))
    report = write_results(run).read_text()
    table = report[report.index("## Training") :].splitlines()[4:7]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert cells[0][:7] == ["eagle", "abcdef01", "433,053", "300", "1,843,200", "2.1e+13", "492,032"]
    assert cells[0][7:] == ["246,016", "0.006 (of 2)", "0", "3 × 1, 4", "default"]
    assert cells[1][:2] == ["hass", "unknown training"]
    assert cells[2][:2] == ["looked-up", "needs no training"]
    assert cells[2][-1] == "tuned, 6 configurations, run tune-try"


@pytest.mark.parametrize("num_arms", [1, 3, 20])
def test_many_arms_with_long_names_stay_inside_their_figures(gpu_run: Path, num_arms: int) -> None:
    """Titles, names, legends and axes; and the axes keep their height."""
    vanilla, eagle, *_ = read_run(gpu_run).rows
    arms = tuple(
        replace(eagle, arm=f"draft-{number}_of_a_very_long_name (updated between blocks)") for number in range(num_arms)
    )
    figures = {plot.kind: plot.laid_out for plot in draw_figures((vanilla, *arms))}
    assert {"speedup", "acceptance", "energy", "machine"} <= figures.keys()
    for kind, figure in figures.items():
        found = figure.get_tightbbox()
        assert found.x0 > -0.01, kind
        assert found.y0 > -0.01, kind
        assert found.x1 < figure.get_figwidth() + 0.01, kind
        assert found.y1 < figure.get_figheight() + 0.01, kind
    acceptance = figures["acceptance"]
    assert acceptance.axes[0].get_position().height * acceptance.get_figheight() > 1.2
