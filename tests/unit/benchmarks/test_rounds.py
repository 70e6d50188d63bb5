"""PRISM's round against EAGLE's from cells, drafts' files of a shape, and what a GPU run shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu_findings import graphs, main
from benchmarks.prism_round import new_suite, ratio, reading_ms, round_ns, tables, write_models
from benchmarks.shapes import SHAPES, write_eagle, write_prism, write_target
from benchmarks.what_if import MEASURED, measured_alphas
from draftbench.drafts.api import Tree, discover
from draftbench.drafts.layout import layers_read
from draftbench.harness.models.checkpoints import load_draft
from draftbench.harness.models.find import EMBEDDED, num_parameters, read_config
from draftbench.harness.records import CellKey, CellRecord, GraphUse, PhaseTimes, RequestRecord
from draftbench.harness.runtime.tensors import read_tensors
from draftbench.harness.suite import Suite
from draftbench.harness.telemetry.window_records import ProcessUsage, WindowRecord


def times(round_ns: int) -> PhaseTimes:
    return PhaseTimes(num_rounds=10, draft_ns=0, verify_ns=0, extend_ns=0, round_ns=10 * round_ns)


def sealed(arm: str, block: int, round_ns: int, use: GraphUse | None = None) -> CellRecord:
    cell = CellKey(launch=0, block=block, arm=arm, workload="w", concurrency=4)
    return CellRecord(
        cell=cell,
        started_ns=0,
        finished_ns=1,
        num_requests=1,
        num_failed=0,
        phases=times(round_ns),
        graphs=use,
        error=None,
    )


@pytest.mark.parametrize(("slower", "equal"), [(1.009, True), (1.02, False)])
def test_rounds_are_equal_where_the_interval_lies_within_the_margin(slower: float, equal: bool):
    """0.9% slower is equal within 1%, 2% is not; both against the same blocks of EAGLE."""
    eagle = {(0, block): 1_000_000.0 + 1000 * block for block in range(8)}
    found = ratio({key: slower * each for key, each in eagle.items()}, eagle)
    assert found is not None
    assert found.value == pytest.approx(slower, rel=1e-4)
    assert found.within(0.01) is equal
    assert ratio({(9, 9): 1.0}, eagle) is None
    assert round_ns(times(70)) == 70


def write_run(folder: Path, cells: list[CellRecord], requests: list[RequestRecord], gpu: str) -> None:
    """A run's folder of records by hand."""
    for name, records in (("cells", cells), ("requests", requests)):
        (folder / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    (folder / "manifest.json").write_text(json.dumps({"host": {"gpu": gpu}}))


def test_tables_have_every_arm_and_only_prism_is_held_against_eagle(tmp_path: Path):
    """Two arms at batch 4: two lines of times, one ratio; without a vanilla arm no table of costs."""
    cells = [sealed(arm, block, 1000 * size) for block in range(3) for arm, size in (("eagle", 100), ("prism-3", 101))]
    write_run(tmp_path, cells, [], "NVIDIA H200")
    ratios, splits = tables(tmp_path, 0.03).strip().split("\n\n")
    assert ratios.count("prism-3") == 1
    assert "eagle " not in ratios
    assert "1.010 [1.010, 1.010]" in ratios
    assert splits.count("\n") == 3


@pytest.mark.parametrize(("gpu", "reads"), [("NVIDIA H200", "1.61"), ("GPU of another kind", "–")])
def test_a_vanilla_arm_tells_what_a_round_costs_and_how_near_it_is_to_reading_the_weights(
    tmp_path: Path, request_record, gpu: str, reads: str
):
    """Steps of 6 ms and rounds of 9 ms make c 1.5, whatever one late chunk does; the weights are read in 3.74 ms."""
    requests, cells = [], [sealed(arm, block, 9_000_000) for block in range(2) for arm in ("eagle", "vanilla")]
    cells = [cell if cell.cell.arm == "eagle" else cell.model_copy(update={"phases": None}) for cell in cells]
    for arm, step in (("vanilla", 6), ("eagle", 9)):
        for block in range(2):
            at = [step * n for n in range(1, 8)]
            record = request_record(tuple((ms, 1) for ms in [*at, at[-1] + 80]), None, arm=arm, block=block)
            cell = record.cell.model_copy(update={"concurrency": 4})
            requests.append(record.model_copy(update={"cell": cell}))
    write_run(tmp_path, cells, requests, gpu)
    costs = tables(tmp_path, 0.01, "llama3-8b").strip().split("\n\n")[2]
    arm, batch, step, c, over_reading, _ = (word.strip() for word in costs.splitlines()[2].strip("| ").split("|"))
    assert (arm, batch, step, c, over_reading) == ("eagle", "4", "6.000", "1.500 [1.500, 1.500]", reads)
    assert reading_ms("llama3-8b", "NVIDIA H200") == pytest.approx(3.735, abs=0.001)
    assert reading_ms(None, "NVIDIA H200") is None


def test_files_of_a_shape_have_its_tensors_and_take_no_room(tmp_path: Path):
    """EAGLE's layer of LLaMA-3-8B is half a gigabyte of names and shapes on next to no disk; the target has 8.03e9."""
    config = write_target("small", tmp_path / "target")
    write_prism(config, [0, 1, 1], tmp_path / "prism")
    facts = read_tensors([tmp_path / "prism"])[tmp_path / "prism"]
    assert facts["prism_modules.1.fc.weight"].shape == (64, 128)
    assert facts["prism_modules.0.layer.self_attn.k_proj.weight"].shape == (32, 64)
    assert "prism_modules.2.fc.bias" not in facts
    large = write_target("llama3-8b", tmp_path / "large")
    write_eagle(large, tmp_path / "eagle")
    weights = tmp_path / "eagle" / "model.safetensors"
    assert weights.stat().st_size > 4e8
    assert weights.stat().st_blocks * 512 < 1e6
    assert num_parameters({**SHAPES["llama3-8b"]}) == 8_030_261_248


@pytest.mark.parametrize("shape", [None, "llama3-8b"])
def test_the_suite_of_the_rounds_is_one_that_bench_takes(shape: str | None):
    """Real weights measure acceptance, random ones simulate it alike for all."""
    suite = Suite.model_validate(json.loads(json.dumps(new_suite(shape, (1, 3), (1, 64), 2, 64))))
    assert [arm.name for arm in suite.arms] == ["eagle", "prism-1", "prism-3"]
    assert len({arm.simulated_acceptance for arm in suite.arms}) == 1
    assert suite.simulates is suite.target.random_weights is (shape is not None)
    assert suite.prompts_at("c=64") == 128
    with_vanilla = Suite.model_validate(json.loads(json.dumps(new_suite(shape, (1,), (1,), 2, 64, vanilla=True))))
    assert [arm.name for arm in with_vanilla.arms] == ["vanilla", "eagle", "prism-1"]


def test_prism_on_three_layers_is_held_against_eagle3(tmp_path: Path):
    """Whole vocabularies, three layers, acceptance simulated alike; both files are what a run loads."""
    suite = Suite.model_validate(json.loads(json.dumps(new_suite(None, (2,), (1,), 2, 64, layers=True))))
    assert [(arm.name, arm.architecture) for arm in suite.arms] == [("eagle3", "eagle3"), ("prism-2", "prism")]
    assert len({arm.simulated_acceptance for arm in suite.arms}) == 1
    write_models(None, (2,), tmp_path, layers=True)
    target = read_config(EMBEDDED / "tiny" / "target")
    for name in ("eagle3", "prism"):
        folder = tmp_path / ("prism-2" if name == "prism" else name)
        spec, facts = discover()[name], read_tensors([folder])[folder]
        found = load_draft(spec, folder, read_config(folder), target, facts, spec.options(), Tree(5, 4, 16))
        assert layers_read(found.config) == [1, 11, 20]
        assert spec.algorithm_of(found) == "EAGLE3"
    cells = [sealed(arm, block, ns) for block in range(4) for arm, ns in (("eagle3", 1000), ("prism-2", 1030))]
    (tmp_path / "cells.jsonl").write_text("".join(cell.model_dump_json() + "\n" for cell in cells))
    (tmp_path / "requests.jsonl").touch()
    assert "round over EAGLE-3's" in (text := tables(tmp_path, 0.05))
    assert "1.030 [1.030, 1.030]" in text
    assert "within 5%" in text


def test_what_if_figures_take_their_acceptance_from_a_published_report():
    """Five steps of the quickstart's drafts on dialogue."""
    for arm in ("eagle", "prism"):
        alphas = measured_alphas(MEASURED, arm)
        assert len(alphas) == 5
        assert all(0 < alpha <= 1 for alpha in alphas)


@pytest.mark.parametrize(("draft", "code"), [(10, 0), (3, 1)])
def test_graphs_that_should_run_and_do_not_are_told(tmp_path: Path, capsys, draft: int, code: int):
    """EAGLE's draft must run in graphs; vanilla needs the target's alone."""
    arms = [{"name": "eagle", "architecture": "eagle"}, {"name": "vanilla", "architecture": "vanilla"}]
    manifest = {"suite": {"arms": arms}, "host": {"gpu": "X"}, "engines": {"eagle": {"cuda_graphs": {"draft": [1, 2]}}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    cells = [
        sealed("eagle", 0, 1000, GraphUse(num_passes=10, target=10, draft=draft, extend=10)),
        sealed("vanilla", 0, 1000, GraphUse(num_passes=10, target=10, draft=None, extend=None)),
    ]
    (tmp_path / "cells.jsonl").write_text("".join(cell.model_dump_json() + "\n" for cell in cells))
    assert graphs(tmp_path) == code
    said = capsys.readouterr().out
    assert "1, 2" in said
    assert ("outside of graphs: eagle draft" in said) is (code == 1)


def test_a_run_that_measured_nothing_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No folder of a run, no cells, no telemetry, a file that was only begun: a sentence and exit code 1."""
    assert main("graphs", str(tmp_path)) == 1
    assert f"{tmp_path / 'manifest.json'} is not there: this is no folder of a run." in capsys.readouterr().out
    (tmp_path / "manifest.json").write_text(json.dumps({"suite": {"arms": []}}, indent=1))
    assert main("graphs", str(tmp_path)) == 1
    assert f"{tmp_path / 'cells.jsonl'} is not there: no cell was measured." in capsys.readouterr().out
    (tmp_path / "telemetry.jsonl").touch()
    assert main("energy", str(tmp_path)) == 1
    assert f"{tmp_path / 'telemetry.jsonl'} is empty: no cell was measured, or" in capsys.readouterr().out


def test_a_run_without_a_gpu_has_nothing_to_show_and_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Cells without graphs, windows without a GPU."""
    arms = [{"name": "vanilla", "architecture": "vanilla"}]
    (tmp_path / "manifest.json").write_text(json.dumps({"suite": {"arms": arms}}))
    (tmp_path / "cells.jsonl").write_text(sealed("vanilla", 0, 1).model_dump_json() + "\n")
    assert main("graphs", str(tmp_path)) == 0
    usage = ProcessUsage(
        client_cpu_s=0.1, engine_cpu_s=None, engine_peak_rss_bytes=None, host_cpu_share=0.5, reason="no process"
    )
    window = WindowRecord(
        launch=0,
        arm="vanilla",
        cell=None,
        started_ns=0,
        finished_ns=1,
        devices=(),
        processes=usage,
        telemetry_cpu_s=0.0,
    )
    (tmp_path / "telemetry.jsonl").write_text(window.model_dump_json() + "\n")
    assert main("energy", str(tmp_path)) == 0
    assert "no window of a GPU" in capsys.readouterr().out
