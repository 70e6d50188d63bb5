"""A run whose launches are spread over devices, on engines that follow a script: who gets which, what is merged."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from draftbench.harness import safe_files as store_files
from draftbench.harness.cluster import device_run, on_ray, work
from draftbench.harness.cluster.seat import FOLDERS, Tail, remove_left
from draftbench.harness.cluster.work import TOLD
from draftbench.harness.errors import EngineError
from draftbench.harness.host import devices
from draftbench.harness.host.devices import Device, check_identical, labels
from draftbench.harness.host.gpu import Gpu, GpuHost
from draftbench.harness.records import ReferenceRecord
from draftbench.harness.store import RunStore
from tests.fakes.local_cluster import XEON, LocalCluster
from tests.fakes.scripted_engine import Script
from tests.unit import test_run
from tests.unit.test_run import AUTO, DRAFTS, NOISES, ONE_LOAD, SOUND, Play, once

play = test_run.play

SPREAD = ONE_LOAD.replace("blocks: 2", "blocks: 2\nlaunches: 4")
CELLS = 4 * 2 * 3


@pytest.fixture
def spread(play: Play, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a suite on a cluster."""

    def run(cluster: LocalCluster, *words: str, suite: str = SPREAD, scripts: dict[str, Script] = SOUND) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(on_ray, "connected", lambda where, cores: cluster)
            return play(scripts, "--on", "ray", *words, suite=suite)

    return run


def answers(play: Play) -> set[tuple[Any, ...]]:
    """Vanilla's."""
    lines = play.lines("references.jsonl")
    return {(line["prompt_id"], line["turn"], tuple(line["output_ids"])) for line in lines}


def two(**changes: Any) -> LocalCluster:
    return LocalCluster({1: XEON, 2: XEON}, **changes)


def test_launches_go_to_as_many_devices_as_there_are(play, spread):
    """Each launch on one device with all its arms; the folder is one of a single machine, and `verify` passes."""
    cluster = two()
    assert spread(cluster) == 0
    given = [(number, {cell.launch for cell in job.cells}) for number, job in cluster.jobs]
    assert sorted(launch for _, launches_ in given for launch in launches_) == [0, 1, 2, 3]
    assert all(len(launches_) == 1 for _, launches_ in given)
    assert {number for number, _ in given} == {1, 2}
    cells = play.lines("cells.jsonl")
    assert Counter(json.dumps(each["cell"]) for each in cells).most_common(1)[0][1] == 1
    assert len(cells) == CELLS
    assert {row["num_requests"] for row in play.rows.values()} == {6 * 2 * 4}
    assert all(set(play.findings(*row)) <= NOISES for row in play.rows)
    assert {launch: found["cpu"] for launch, found in play.manifest["devices"].items()} == dict.fromkeys("0123", "Xeon")
    assert set(play.manifest["engines"]) == {"vanilla", "hass", "lookup"}
    assert play.manifest["finished"]
    assert play.mismatches() == ()


def test_files_are_equal_in_kind_to_those_of_one_machine(play, spread):
    """The same files, the same records about the same cells, the suite's hash on each file's first line alone."""
    assert play(SOUND, suite=SPREAD) == 0
    alone = {path.name for path in play.out.iterdir() if path.is_file()}
    cells = sorted(json.dumps(each["cell"]) for each in play.lines("cells.jsonl"))
    references = {
        (each["prompt_id"], each["turn"], tuple(each["output_ids"])) for each in play.lines("references.jsonl")
    }
    keys = set(play.manifest)
    play.out = play.folder / "spread"
    assert spread(two()) == 0
    assert {path.name for path in play.out.iterdir() if path.is_file()} == alone
    assert sorted(json.dumps(each["cell"]) for each in play.lines("cells.jsonl")) == cells
    assert answers(play) == references
    assert set(play.manifest) == keys | {"devices"}
    for name in ("requests.jsonl", "cells.jsonl", "references.jsonl", "controls.jsonl"):
        assert ["suite_sha256" in line for line in play.lines(name)][:2] == [True, False]


def test_vanilla_makes_its_passes_once_on_the_first_device(play, spread):
    """The other gets its launch when they are over, with what they found."""
    cluster = two()
    assert spread(cluster) == 0
    assert len(play.stage.sent("l0-b-1-reference-")) == 3
    assert len(play.stage.sent("l0-b-50-control-")) == 6
    first, second, *others = cluster.jobs
    assert first[1].records == {}
    assert len(second[1].records["references.jsonl"]) == 6
    assert [job.records for _, job in others] == [{}, {}], "each device has them once"
    assert len(RunStore(play.out).read(ReferenceRecord)) == 6


def test_a_launch_that_was_cut_is_made_again_whole_on_another_device(play, spread):
    """What the lost device had measured of it is set aside, what it had finished stays."""
    lost: list[int] = []

    def loses(number: int, had: Any) -> bool:
        sealed = [json.loads(line)["cell"]["launch"] for name, line in had if name == "cells.jsonl"]
        if number == 2 and not lost and sealed:
            lost.append(sealed[0])
            return True
        return False

    assert spread(two(loses=loses)) == 0
    assert lost
    assert "device 2 is lost: it was killed" in play.told
    cells = play.lines("cells.jsonl")
    assert len(cells) == CELLS == len({json.dumps(each["cell"]) for each in cells})
    assert {row["num_requests"] for row in play.rows.values()} == {6 * 2 * 4}
    assert all(set(play.findings(*row)) <= NOISES for row in play.rows), "no block is split"
    assert play.mismatches() == ()


def test_a_device_whose_process_is_gone_is_had_again(play, spread):
    """Where its host is alive."""
    lost: list[int] = []

    def loses(number: int, had: Any) -> bool:
        if not lost and any(name == "requests.jsonl" for name, _ in had):
            lost.append(number)
            return True
        return False

    assert spread(LocalCluster({1: XEON}, loses=loses, renews=True)) == 0
    assert lost == [1]
    assert len(play.lines("cells.jsonl")) == CELLS
    assert play.lines("interrupted.jsonl")


def test_a_device_that_is_lost_again_and_again_is_left(play, spread):
    """After three times; the run ends with what was measured."""
    loses = lambda number, had: any(name != TOLD for name, _ in had)  # noqa: E731
    assert spread(LocalCluster({1: XEON}, loses=loses, renews=True)) == 2
    assert "launch 0 ended 3 devices; what was measured is kept, go on with --resume." in play.said_wrong
    assert play.said_wrong.count("device 1: it was killed") == 3


def test_where_no_device_is_left_the_run_goes_on_later(play, spread):
    """Exit code 2 with the reason; launches that were whole are not measured again, the cut one is as a whole."""

    def loses(number: int, had: Any) -> bool:
        return any(name == "cells.jsonl" and json.loads(line)["cell"]["launch"] == 1 for name, line in had)

    assert spread(LocalCluster({1: XEON}, loses=loses)) == 2
    assert "no device is left; what was measured is kept, go on with --resume." in play.said_wrong
    whole = play.lines("cells.jsonl")
    assert {each["cell"]["launch"] for each in whole} == {0}
    assert play(SOUND, "--resume", suite=SPREAD) == 2
    assert "was begun with --on; go on with it with --on" in play.said_wrong
    cluster = two()
    assert spread(cluster, "--resume") == 0
    assert {cell.launch for _, job in cluster.jobs for cell in job.cells} == {1, 2, 3}
    assert play.lines("cells.jsonl")[: len(whole)] == whole
    assert len(play.stage.sent("l0-b-1-reference-")) == 3, "vanilla's passes are recorded"
    assert all(set(play.findings(*row)) <= NOISES for row in play.rows)
    assert play.mismatches() == ()


def test_a_run_that_began_on_one_host_does_not_go_on_elsewhere(play, spread):
    """Its cells are this host's."""
    assert play({**SOUND, "hass": replace(DRAFTS, start_error="not now")}, suite=SPREAD) == 0
    assert spread(two(), "--resume") == 2
    assert "this run began on one host, without --on" in play.said_wrong


def test_a_full_disk_on_a_device_costs_that_device_alone(play, spread, monkeypatch):
    """With its sentence; the launch goes to the other one, and nothing is lost or there twice."""
    full: list[Path] = []
    write = store_files._write

    def fill(file: Any, data: bytes) -> None:
        folder = Path(f"/proc/self/fd/{file.fileno()}").readlink().parent
        if b'"cell":{"launch":1' in data and folder.name.startswith(FOLDERS):
            full.append(folder)
        if folder in full[:1] and b"make space" not in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, data)

    monkeypatch.setattr(store_files, "_write", fill)
    assert spread(two()) == 0
    assert "is lost:" in play.told
    assert "make space" in play.told
    assert len(play.lines("cells.jsonl")) == CELLS
    assert {row["num_requests"] for row in play.rows.values()} == {6 * 2 * 4}


def test_ctrl_c_keeps_what_was_measured(play, spread):
    """As on one machine; the launches that were cut are made again whole."""
    assert spread(two(), scripts={**SOUND, "hass": replace(DRAFTS, interrupts=once("l1-b1-hass-"))}) == 130
    assert spread(two(), "--resume") == 0
    assert len(play.lines("cells.jsonl")) == CELLS
    assert all(set(play.findings(*row)) <= NOISES for row in play.rows)


def test_devices_of_two_kinds_are_refused_with_what_differs(play, spread):
    """Before anything is measured; both values stand there, and the way out."""
    other = XEON.model_copy(update={"cores": 2, "cpu": "EPYC"})
    assert spread(LocalCluster({1: XEON, 2: other})) == 2
    assert "device 1 and device 2 are not identical: processor Xeon and EPYC; cores 1 and 2." in play.said_wrong
    assert "devices: any" in play.said_wrong
    assert not play.out.exists()
    assert play.events("begin") == []


def test_devices_stand_in_their_order_whichever_is_ready_first(play, spread):
    """So a sentence about two of them is the same every time."""
    other = XEON.model_copy(update={"cores": 2})
    assert spread(LocalCluster({2: other, 1: XEON})) == 2
    assert "device 1 and device 2 are not identical: cores 1 and 2." in play.said_wrong


def test_a_draft_that_is_updated_between_blocks_stays_on_one_host(play, spread):
    """Its updates need the records of the blocks before; it is said before anything starts."""
    tree = "num_steps: 3, topk: 1, num_draft_tokens: 4"
    online = f"  - {{name: fresh, architecture: online, checkpoint: tiny/standalone, {tree}}}\n"
    suite = SPREAD.replace("workloads:\n", online + "workloads:\n") + "block_prompts: fresh\n"
    assert spread(two(), suite=suite, scripts={**SOUND, "fresh": DRAFTS}) == 2
    assert "arm fresh is updated between blocks" in play.said_wrong
    assert "leave --on out" in play.said_wrong
    assert play.events("begin") == []
    assert not play.out.exists()


def test_with_devices_any_each_kind_has_rows_of_its_own(play, spread):
    """With the device as a column; nothing is held against another kind's, figures are apart, and `verify` passes."""
    other = XEON.model_copy(update={"cpu": "EPYC"})
    assert spread(LocalCluster({1: XEON, 2: other}), suite=SPREAD + "devices: any\n") == 0
    rows = json.loads((play.out / "results.json").read_text())
    kinds = [row["detail"]["device"] for row in rows]
    assert sorted(kinds) == ["EPYC, 1 core"] * 3 + ["Xeon, 1 core"] * 3
    assert sum(row["num_requests"] for row in rows) == 6 * 2 * 4 * 3
    ran = [device["cpu"] for device in play.manifest["devices"].values()]
    for row in rows:
        assert row["detail"]["num_launches"] == ran.count(row["detail"]["device"][:4])
    with (play.out / "results.csv").open() as file:
        assert {row["device"] for row in csv.DictReader(file)} == set(kinds)
    report = (play.out / "report.md").read_text()
    assert f"EPYC, 1 core: {ran.count('EPYC')}; Xeon, 1 core: {ran.count('Xeon')}" in report
    assert "| arm     | device" in report
    assert "On Xeon, 1 core: " in report
    assert "chat on EPYC, 1 core" in report
    assert play.mismatches() == ()


def test_a_device_is_the_gpu_that_is_visible_with_its_power_limit(monkeypatch):
    """As Ray shows one of a host's GPUs to an actor; a host without a GPU is its cores."""
    found = tuple(Gpu("H100", 80 * 2**30, 80 * 2**30, (9, 0), limit) for limit in (700.0, 500.0))
    monkeypatch.setattr(devices, "read_gpu_host", lambda: GpuHost("580.1", found))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    device = devices.this_device()
    assert (device.name, device.gpus, device.gpu_memory_gib, device.gpu_power_limit_w) == ("H100", 1, 80.0, 500.0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices.this_device().name == "2 x H100"
    monkeypatch.setattr(devices, "read_gpu_host", lambda: GpuHost(None, ()))
    assert devices.this_device().name.endswith(f"{len(os.sched_getaffinity(0))} cores")


def test_devices_of_one_name_that_differ_are_told_apart():
    """By what differs; identical ones have one name."""
    low = XEON.model_copy(update={"gpu": "H100", "gpus": 1, "gpu_power_limit_w": 500})
    high = low.model_copy(update={"gpu_power_limit_w": 700})
    assert labels({0: low, 1: high, 2: low}) == {0: "H100", 1: "H100 (power limit in W 700)", 2: "H100"}


@pytest.mark.parametrize(
    "field", ["gpu", "gpu_memory_gib", "gpu_power_limit_w", "gpu_driver", "cpu", "cores", "python"]
)
def test_everything_that_makes_devices_differ_is_held_against_the_first(field):
    """And what is equal is silent."""
    gpu = Device(gpus=1, gpu="H100", gpu_memory_gib=80, gpu_power_limit_w=700, gpu_driver="580", cpu="Xeon", cores=8,
                 system="Linux", python="3.11.2")  # fmt: skip
    check_identical({"a": gpu, "b": gpu.model_copy()})
    value = getattr(gpu, field)
    changed = gpu.model_copy(update={field: value + 1 if isinstance(value, int | float) else value + " other"})
    with pytest.raises(EngineError, match="a and b are not identical") as told:
        check_identical({"a": gpu, "b": changed})
    assert str(value) in str(told.value)


def test_a_run_goes_on_on_devices_of_the_kind_that_it_began_on(play, spread):
    """Others are refused with what differs."""

    def loses(number: int, had: Any) -> bool:
        return any(name == "cells.jsonl" and json.loads(line)["cell"]["launch"] == 1 for name, line in had)

    assert spread(LocalCluster({1: XEON}, loses=loses)) == 2
    assert spread(LocalCluster({1: XEON.model_copy(update={"cores": 4})}), "--resume") == 2
    assert "the device that this run began on and device 1 are not identical: cores 1 and 4" in play.said_wrong


def test_another_draftbench_there_is_told_with_both_hashes(play, spread, monkeypatch):
    """The device says it, and nothing is measured."""
    here = work.same_here
    monkeypatch.setattr(
        device_run, "same_here", lambda suite, models: here(suite, models).model_copy(update={"code": "f" * 64})
    )
    assert spread(two()) == 2
    assert (
        f"draftbench is 0.1.0 with code {'f' * 12} here, 0.1.0 with code {work.code_sha256()[:12]}" in play.said_wrong
    )
    assert not play.out.exists()


def test_other_weights_or_data_there_are_told_with_both_hashes(play, spread, monkeypatch):
    """Each by its name."""
    here = work.same_here

    def other(suite: Any, models: Any) -> Any:
        return here(suite, {**models, "target": "e" * 64})

    monkeypatch.setattr(device_run, "same_here", other)
    assert spread(two()) == 2
    assert f"models: target has SHA-256 {'e' * 12} here, " in play.said_wrong
    monkeypatch.setattr(
        device_run, "same_here", lambda suite, models: here(suite, models).model_copy(update={"files": {}})
    )
    assert spread(two()) == 2
    assert "chat.jsonl has SHA-256 none (it is missing) here, " in play.said_wrong


def test_another_package_of_a_draft_there_is_told_with_both(play, spread, monkeypatch):
    """Its code is not draftbench's own."""
    here = work.same_here
    theirs = {"plugged": {"package": "p", "version": "2", "entry_point": "p:S", "sha256": "a" * 64}}

    def other(suite: Any, models: Any) -> Any:
        return here(suite, models).model_copy(update={"draft_packages": theirs})

    monkeypatch.setattr(device_run, "same_here", other)
    assert spread(two()) == 2
    assert "plugged is p 2 (SHA-256 aaaaaaaa) here, no such package where bench.py runs" in play.said_wrong


def test_other_versions_of_the_engine_are_told_with_both(play, spread, monkeypatch):
    """Devices are held against each other; where bench.py runs no engine does."""
    versions = iter(["2.11.0", "2.13.0"])
    monkeypatch.setattr(device_run, "versions_here", lambda: {"torch": next(versions)})
    assert spread(two()) == 2
    assert "torch is 2.1" in play.said_wrong
    assert "install the same version on both" in play.said_wrong


def test_launches_are_added_on_all_devices_until_intervals_are_narrow(play, spread):
    """`blocks: auto` too."""
    text = AUTO.replace("HALF", "0.4").replace("LIMIT", "600")
    cluster = two()
    assert spread(cluster, suite=text) == 0
    launches_ = {each["cell"]["launch"] for each in play.lines("cells.jsonl")}
    assert launches_ >= set(range(5))
    assert {number for number, _ in cluster.jobs} == {1, 2}


def test_outputs_that_differ_are_scored_by_their_launches_engines_once(play, spread):
    """Two devices may score the same one; the folder has it once."""
    from tests.fakes.scripted_engine import another_word

    scripts = {**SOUND, "hass": replace(DRAFTS, answer=another_word)}
    assert spread(two(), scripts=scripts) == 0
    scored = [(each["prompt_id"], each["turn"], tuple(each["output_ids"])) for each in play.lines("rescores.jsonl")]
    assert len(scored) == len(set(scored)) == 12


def test_at_a_temperature_arms_sample_once_whatever_the_number_of_devices(play, spread, monkeypatch):
    """On the device of the first launch."""
    from draftbench.harness.run import samples

    monkeypatch.setattr(samples, "OPEN_TOKENS", 8)
    text = SPREAD.replace("temperature: 0", "temperature: 0.8").replace("launches: 4", "launches: 2")
    assert spread(two(), suite=text) == 0
    assert len(play.stage.sent("l0-b-20-hass-open")) == 240
    assert len(play.lines("samples.jsonl")) == 12 == len(play.lines("sample_scores.jsonl"))


def test_an_endpoint_is_one_server_for_all_and_is_not_spread(play, spread):
    """It would be asked by several launches at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("draftbench.harness.runtime.fleet.open_endpoint", lambda arm, arguments: None)
        text = SPREAD.replace("{name: lookup, architecture: prompt_lookup, num_steps: 3, topk: 1, num_draft_tokens: 4}",
                              "{name: served, endpoint: 'http://127.0.0.1:9', api: sglang}")  # fmt: skip
        assert spread(two(), suite=text) == 2
    assert "served" in play.said_wrong


def test_lines_are_handed_on_whole_and_before_what_speaks_of_them(tmp_path):
    """A seal comes after its cell's requests, `done` after everything; a line that is being written waits."""
    tail = Tail(tmp_path)
    (tmp_path / "requests.jsonl").write_text('{"a": "one\u2028line"}\n{"b"')
    (tmp_path / "cells.jsonl").write_text('{"c": 1}\n')
    (tmp_path / TOLD).write_text('{"what": "done"}\n')
    assert tail.take() == [
        ("requests.jsonl", '{"a": "one\u2028line"}'),
        ("cells.jsonl", '{"c": 1}'),
        (TOLD, '{"what": "done"}'),
    ]
    with (tmp_path / "requests.jsonl").open("a") as file:
        file.write(": 2}\n")
    assert tail.take() == [("requests.jsonl", '{"b": 2}')]
    assert tail.take() == []


def test_folders_of_seats_that_were_killed_are_removed(tmp_path):
    """Those of processes that live stay."""
    dead, alive = tmp_path / f"{FOLDERS}99999999-a", tmp_path / f"{FOLDERS}{os.getpid()}-b"
    dead.mkdir()
    alive.mkdir()
    remove_left(FOLDERS, tmp_path)
    assert not dead.exists()
    assert alive.exists()


GPU_NODE = {"Alive": True, "NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Resources": {"GPU": 8.0, "CPU": 64.0}}
CPU_NODE = {"Alive": True, "NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 6.0}}


@pytest.mark.parametrize(
    ("nodes", "cores", "found"),
    [
        ([GPU_NODE], None, [(1, None)] * 8),
        ([GPU_NODE, CPU_NODE], None, [(1, None)] * 8),
        ([GPU_NODE], 32, [(1, 32)] * 2),
        ([CPU_NODE], None, [(0, 6)]),
        ([CPU_NODE], 2, [(0, 2)] * 3),
        ([CPU_NODE, {**CPU_NODE, "Alive": False}], 4, [(0, 4)]),
        ([CPU_NODE], 8, []),
        ([{**CPU_NODE, "Resources": {}}], None, []),
    ],
)
def test_devices_of_a_cluster_are_its_gpus_or_shares_of_cores(nodes, cores, found):
    """A node without a GPU is no device where others have one; dead nodes are none."""
    assert [(place.gpus, place.cores) for place in on_ray.places_of(nodes, cores)] == found


@pytest.mark.parametrize(
    ("nodes", "cores", "gpus", "found"),
    [
        ([GPU_NODE], None, 2, [(2, None)] * 4),
        ([GPU_NODE], 32, 3, [(3, 32)] * 2),
        ([GPU_NODE], None, 9, []),
        ([CPU_NODE], 2, 2, [(0, 2)] * 3),
    ],
)
def test_a_launch_whose_engines_take_several_gpus_gets_them_on_one_node(nodes, cores, gpus, found):
    """As `target.tensor_parallel` says; ranks on the CPU share the device's cores."""
    assert [(place.gpus, place.cores) for place in on_ray.places_of(nodes, cores, gpus)] == found


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--cores", "2"), "--cores is of devices that --on names"), (("--on", "ray", "--cores", "0"), "--cores is 0")],
)
def test_cores_are_of_devices_and_one_or_more(play, words, said):
    """Else it is told before anything starts."""
    assert play(SOUND, *words, suite=ONE_LOAD) == 2
    assert said in play.said_wrong
    assert not play.out.exists()


def test_without_ray_the_command_that_installs_it_is_told(play, monkeypatch):
    """And nothing is started."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert play(SOUND, "--on", "ray", suite=ONE_LOAD) == 2
    assert "--on needs Ray, which is not installed here" in play.said_wrong
    assert "pip install 'draftbench[ray]'" in play.said_wrong
    assert not play.out.exists()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("rya", "--on rya is no cluster: say ray, ray://HOST:PORT or HOST:PORT."),
        ("127.0.0.1:1", "--on 127.0.0.1:1: nobody listens there"),
        ("ray://127.0.0.1:1", "nobody listens there"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(where, said):
    """Ray would wait for minutes."""
    with pytest.raises(EngineError) as told:
        on_ray.check_listens(where)
    assert said in str(told.value)
