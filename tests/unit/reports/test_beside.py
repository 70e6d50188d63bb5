"""A run beside PRISM's printed table: ratios, and every setting that differs."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from draftbench import bench
from draftbench.harness.manifest import Manifest
from draftbench.reports.beside import NotBesideError, beside, differences, read_printed
from draftbench.reports.files import Run, read_run
from tests.fakes.known import receipt, suite_object

SYSTEM = "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible."
TREE = {"num_steps": 6, "topk": 4, "num_draft_tokens": 16}


def paper_like(**changes: object) -> Manifest:
    """A run under the paper's settings, as far as one can be."""
    arms = [
        {"name": "vanilla", "architecture": "vanilla"},
        {"name": "hass", "architecture": "eagle", "checkpoint": "x/y", **TREE},
        {"name": "prism", "architecture": "prism", "checkpoint": "x/y", **TREE},
    ]
    suite = suite_object(
        arms,
        target={"model": "meta-llama/Meta-Llama-3-8B-Instruct", "dtype": "bfloat16"},
        workloads=[{"name": "gsm8k", "source": "gsm8k", "subset": "eagle", "system": SYSTEM}],
        sampling={"temperature": 0.0, "max_tokens": 512, "seed": 0},
        prefix_cache=True,
        **changes,
    )
    reads = receipt("EAGLE3").model_copy(update={"draft_facts": {"reads": [1, 15, 28]}})
    host, packages = {"gpu": "NVIDIA A800 80G"}, {"sglang": "0.5.17"}
    found = Manifest.of({"version": 1, "suite": suite, "host": host, "packages": packages})
    return found.model_copy(update={"engines": {"prism": reads}})


def rows_of(run: Run, **values: object) -> tuple[object, ...]:
    """The run's rows as if they were of GSM8K; eagle's is called prism."""
    renamed = {"eagle": "prism"}
    return tuple(
        dataclasses.replace(row, workload="gsm8k", arm=renamed.get(row.arm, row.arm), **values) for row in run.rows
    )


def test_acceptance_and_speedup_stand_beside_the_printed_ones(run):
    """LLaMA-3, GSM8K: PRISM 5.11 and 237.41 / 85.98 = 2.76; the ratios are ours over theirs."""
    found = read_run(run)
    rows = tuple(
        dataclasses.replace(row, acceptance_length=5.0, speedup=2.5, speedup_low=2.4, speedup_high=2.6)
        for row in rows_of(found, valid=True)
    )
    text = beside(rows, paper_like(), read_printed("paper", "meta-llama/Meta-Llama-3-8B-Instruct"))
    cells = [cell.strip() for cell in next(line for line in text.splitlines() if "| prism" in line).split("|")[1:-1]]
    assert cells == ["gsm8k", "prism", "5.00", "5.11", "0.978", "2.50 [2.40, 2.60]", "2.76", "0.905"]
    assert sum(line.startswith("| gsm8k") for line in text.splitlines()) == 2
    assert "- engine: SGLang 0.5.17 here, forks of SGLang 0.4.6.post1" in text


def test_equal_settings_differ_in_the_engine_alone(run):
    """What is alike is not told."""
    rows, printed = rows_of(read_run(run)), read_printed("paper", "meta-llama/Meta-Llama-3-8B-Instruct")
    assert [text.partition(":")[0] for text in differences(rows, paper_like(), printed)] == ["engine"]


def test_every_setting_that_differs_is_told(run):
    """The embedded target, other trees, other prompts."""
    found = read_run(run)
    suite = found.manifest.suite.model_copy(
        update={"workloads": tuple(w.model_copy(update={"name": "gsm8k"}) for w in found.manifest.suite.workloads)}
    )
    printed = read_printed("paper", "tiny")
    text = "\n".join(differences(rows_of(found), found.manifest.model_copy(update={"suite": suite}), printed))
    for said in (
        "target: tiny here, LLaMA-2-7B-chat there",
        "dtype: float32 here, bfloat16 there",
        "prefix cache: False here, True there",
        "tree of hass: 3 × 1, 4 here, 6 × 4, 16 there",
        "gsm8k: at most 32 tokens a turn here, 512 there",
        "gsm8k: no system prompt here, 'You are a helpful, respectful and honest assistant.' … there",
        "gsm8k: all prompts of the set here, 80 prompts of the subset eagle there",
    ):
        assert said in text


def test_prisms_layers_are_told_where_they_are_others(run):
    """The published PRISM for LLaMA-2 reads the last hidden state, the one for LLaMA-3 three layers."""
    rows, printed = rows_of(read_run(run)), read_printed("paper", "Llama-2-7b-chat")
    assert "prism reads 3 layers here, the last hidden state there" in list(differences(rows, paper_like(), printed))


def test_a_run_without_its_arms_sets_or_temperature_is_refused(run):
    """With what the table has."""
    found = read_run(run)
    printed = read_printed("paper", "tiny")
    with pytest.raises(NotBesideError, match=r"no valid row stands in PRISM, Table 4.*gsm8k"):
        beside(found.rows, found.manifest, printed)
    with pytest.raises(NotBesideError, match="temperature 0"):
        beside(rows_of(found, temperature=1.0), found.manifest, printed)
    with pytest.raises(NotBesideError, match="nothing printed is called papers; allowed: paper"):
        read_printed("papers", "tiny")


def test_the_command_prints_it_and_keeps_it(run, capsys, tmp_path):
    """`bench.py report RUN --beside paper`; a run that is none of the table's says why."""
    copy = tmp_path / "copy"
    shutil.copytree("reports/published/quickstart-cpu", copy)
    assert bench.main(["report", str(copy), "--beside", "paper"]) == 2
    assert "no valid row stands in PRISM, Table 4" in capsys.readouterr().err.replace("\n", " ")
    requests, manifest = copy / "requests.jsonl", copy / "manifest.json"
    for path in (requests, manifest, *copy.glob("*s.jsonl")):
        path.write_text(path.read_text().replace("arithmetic", "gsm8k"))
    assert bench.main(["report", str(copy), "--beside", "paper"]) == 0
    kept = (copy / "beside-paper.md").read_text()
    assert "# quickstart beside PRISM, Table 4" in kept
    assert "- target: tiny here, LLaMA-2-7B-chat there" in kept
    assert kept.splitlines()[0] in capsys.readouterr().out


OWN = {
    "title": "Our paper, table 2", "source": "measured by us",
    "tokens_per_s_and_acceptance_length": {
        "tiny": {"eagle": {"w": {"acceptance_length": 2.0, "speedup": 1.5}}, "hass": {"w": {"acceptance_length": 3.0}}}
    },
}  # fmt: skip


def test_a_table_of_ones_own_is_a_file(run, tmp_path, capsys):
    """Its methods are arms' names, it may give speedups or none; settings that it does not say do not differ."""
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(OWN))
    assert bench.main(["report", str(run), "--beside", str(path)]) == 0
    text = (run / "beside-ours.md").read_text()
    cells = {line.split("|")[2].strip(): line.split("|")[3:-1] for line in text.splitlines() if line.startswith("| w")}
    assert [cell.strip() for cell in cells["eagle"][:3]] == ["3.00", "2.00", "1.500"]
    assert cells["eagle"][4].strip() == "1.50"
    assert [cell.strip() for cell in cells["hass"][4:]] == ["–", "–"]
    assert "No setting that both name differs." in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": 3}, "title: Input should be a valid string"),
        ({"settings": {"devices": "x"}}, "settings.devices: Extra inputs are not permitted"),
        ({"tokens_per_s_and_acceptance_length": {}}, "at least 1 item"),
        (
            {"tokens_per_s_and_acceptance_length": {"t": {"m": {"w": {"speedup": 0}}}}},
            "tokens_per_s_and_acceptance_length.t.m.w.speedup: Input should be greater than 0",
        ),
    ],
)
def test_a_file_that_is_no_such_table_is_told(tmp_path, change, said):
    """With its place in the file."""
    path = tmp_path / "ours.json"
    path.write_text(json.dumps({**OWN, **change}))
    with pytest.raises(NotBesideError) as error:
        read_printed(str(path), "tiny")
    assert said in str(error.value)
    assert "ours.json" in str(error.value)
