"""Suites: what is accepted, and that every mistake is told with file, line, what is allowed and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftbench.harness.errors import SuiteError
from draftbench.harness.run.plan import estimate, plan_cells
from draftbench.harness.suite import Suite, load_suite, relocated, suite_schema
from draftbench.harness.workloads.sources import SYNTHETIC

GOOD = """\
version: 1
name: try
target: {model: tiny, dtype: float32}
arms:
  - name: vanilla
    architecture: vanilla
  - name: tree
    architecture: eagle
    checkpoint: tiny/eagle
    num_steps: 3
    topk: 2
    num_draft_tokens: 6
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 4}
sampling: {temperature: 0, max_tokens: 32, seed: 0}
load:
  - concurrency: 1
blocks: 2
"""


ALPHAS = "num_steps: 3\n    simulated_acceptance: [0.8, 0.7, 0.6]"
RANDOM = ("dtype: float32}", "dtype: float32, random_weights: true}")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def test_a_good_suite_loads_with_its_defaults(tmp_path):
    """What the suite does not say is one launch, no prefix cache, and as many requests as its concurrency."""
    suite = load_suite(write(tmp_path, GOOD))
    assert (suite.launches, suite.prefix_cache, suite.running_requests) == (1, False, 4)
    assert suite.arms[1].num_draft_tokens == 6


def test_auto_blocks_need_a_vanilla_arm(tmp_path):
    """What they narrow are speedups over vanilla."""
    text = GOOD.replace("  - name: vanilla\n    architecture: vanilla\n", "")
    text = text.replace("blocks: 2", "blocks: auto\nauto: {half_width: 0.1, time_limit_s: 9}")
    with pytest.raises(SuiteError, match=r"suite\.yaml:1: blocks: auto needs a vanilla arm"):
        load_suite(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("blocks: 2", "bloks: 2", 18, "bloks is not known here"),
        ("blocks: 2", "bloks: 2", 18, "Did you mean blocks?"),
        ("blocks: 2", "blocks: 0", 18, "blocks is 0; a number from 1 to 1000, or auto"),
        ("blocks: 2", 'blocks: "2"', 18, "blocks is '2'; a number from 1 to 1000, or auto"),
        ("blocks: 2", "blocks: yes", 18, "YAML reads yes, no, on and off as true and false"),
        ("blocks: 2", "blocks: 2\ntelemetry_period_s: off", 19, "YAML reads yes, no, on and off as true and false"),
        (
            "blocks: 2",
            "blocks: 2\ntelemetry_period_s: 0",
            19,
            "telemetry_period_s is 0; input should be greater than 0",
        ),
        ("blocks: 2", "", 1, "blocks is missing"),
        ("blocks: 2", "blocks: auto", 1, "need each other"),
        ("blocks: 2", "blocks: auto\nlaunches: 3\nauto: {half_width: 0.1, time_limit_s: 9}", 1, "leave it out"),
        ("blocks: 2", "blocks: auto\nauto: {half_width: 0, time_limit_s: 9}", 19, "greater than 0"),
        ("blocks: 2", "blocks: 2\nblocks: 3", 19, "blocks is given twice"),
        ("version: 1", "version: 2", 1, "version is 2"),
        ("architecture: eagle", "architecture: eagel", 8, "Did you mean eagle?"),
        ("dtype: float32", "dtype: float23", 3, "Did you mean float32?"),
        ("topk: 2", "topk: 0", 11, "arms[1].topk is 0"),
        ("topk: 2", "top_k: 2", 11, "Did you mean topk?"),
        ("    topk: 2\n", "", 7, "arms[1].topk is missing; eagle needs it"),
        ("num_draft_tokens: 6", "num_draft_tokens: 60", 12, "at most 11 nodes"),
        ("topk: 2", "topk: 1", 12, "a chain of 4 nodes; set it to 4"),
        ("architecture: vanilla", "architecture: vanilla\n    num_steps: 2", 7, "num_steps means nothing for vanilla"),
        ("name: tree", "name: vanilla", 1, "arms[1].name is vanilla"),
        ("source: synthetic", "source: sinthetic", 14, "Did you mean synthetic?"),
        ("family: arithmetic", "family: arithmetik", 14, "Did you mean arithmetic?"),
        (", num_prompts: 4", "", 14, "num_prompts is missing"),
        (
            "source: synthetic, family: arithmetic",
            "source: gsm8k, path: gone.jsonl",
            14,
            "paths are relative to the suite",
        ),
        ("source: synthetic, family: arithmetic", "source: chat_jsonl", 14, "path is missing"),
        ("family: arithmetic", "family: arithmetic, subset: qualitative", 14, "subset means nothing for synthetic"),
        ("source: synthetic, family: arithmetic", "source: gsm8k, subset: eagel", 14, "allowed: eagle."),
        ("source: synthetic, family: arithmetic", "source: random", 14, "prompt_tokens is missing; random needs it"),
        ("source: synthetic, family: arithmetic", "source: prompts", 14, "path is missing; prompts needs it"),
        ("source: synthetic, family: arithmetic", "source: gsm8k, run_programs: true", 14, "nothing for gsm8k"),
        ("source: synthetic, family: arithmetic", "source: mt_bench, revision: main", 14, "nothing for mt_bench"),
        ("blocks: 2", "blocks: 2\nrendering: {template: none.jinja}", 19, "there is no file"),
        ("blocks: 2", "blocks: 2\nrendering: {template: suite.yaml, raw: true}", 19, "raw sends no template"),
        ("blocks: 2", "blocks: 2\nrendering: {thinkin: true}", 19, "Did you mean thinking?"),
        ("concurrency: 1", "concurency: 1", 17, "Did you mean concurrency?"),
        ("concurrency: 1", "concurrency: 0", 17, "load[0].concurrency is 0"),
        ("concurrency: 1", "{}", 17, "has one of concurrency, rate and trace; found none of them"),
        ("concurrency: 1", "{concurrency: 1, rate: 2}", 17, "found concurrency and rate"),
        ("concurrency: 1", "{concurrency: 1, burst: 2}", 17, "it means nothing with concurrency"),
        ("concurrency: 1", "rate: 0", 17, "load[0].rate is 0; input should be greater than 0"),
        ("concurrency: 1", "{rate: 1, burst: 1}", 17, "load[0].burst is 1"),
        ("concurrency: 1", "trace: none.jsonl", 17, "there is no file"),
        ("concurrency: 1", "rate: 2\n  - rate: 2.0", 1, "load[1] is 2/s, as an earlier one"),
        ("load:\n  - concurrency: 1", "load: []", 16, "load has none; allowed: 1 or more."),
        ("blocks: 2", "blocks: 2\nlimits: {}", 19, "limits holds none; give ttft_ms, tpot_ms or both"),
        ("blocks: 2", "blocks: 2\nlimits: {ttft: 5}", 19, "Did you mean ttft_ms?"),
        ("blocks: 2", "blocks: 2\nlimits: {ttft_ms: -5}", 19, "limits.ttft_ms is -5"),
        ("temperature: 0", "temperature: -1", 15, "sampling.temperature is -1"),
        ("name: try", "name: [", 2, "not YAML"),
        ("name: try", "name: !!python/object:os.system {}", 2, "is not allowed"),
        ("name: try", "name: try\n1: 2", 3, "a key must be a word"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path, old, new, line, said):
    """Each mistake names the file, the line it stands on, and what is allowed."""
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    text = str(caught.value)
    assert said in text
    assert f"{path}:" in text
    if "not YAML" not in said:
        assert f"{path}:{line}: " in text


def test_a_mistake_is_told_once(tmp_path):
    """A list whose only entry is wrong is not called empty as well."""
    for old, new in (("family:", "familie:"), ("concurrency:", "concurency:")):
        with pytest.raises(SuiteError) as caught:
            load_suite(write(tmp_path, GOOD.replace(old, new, 1)))
        (line,) = str(caught.value).splitlines()
        assert "is not known here" in line


@pytest.mark.parametrize(
    ("architecture", "options", "said"),
    [
        ("ngram", "{warmth: 3}", "arms[1].options.warmth is not known to ngram; allowed: none."),
        ("eagle", "{adaptive_steps: [1, 3]}", "adaptive_steps goes with topk 1 alone, and it is 2"),
        (
            "eagle3",
            "{adaptive_steps: [3, 1]}",
            "adaptive_steps is [3, 1]; write numbers from 0 on, each once, ascending",
        ),
        ("prism", "{adaptive_steps: [3]}", "adaptive_steps is [3]; list should have at least 2 items"),
        (
            "standalone",
            "{acceptance_rule: rsd}",
            "acceptance_rule is rsd, which drafts topk paths of num_steps tokens: set",
        ),
        (
            "prism",
            "{acceptance_rule: typical}",
            "arms[1].options.acceptance_rule is 'typical'; input should be 'rsd' or",
        ),
        (
            "nextn",
            "{acceptance_rule: rsd, adaptive_steps: [1, 3]}",
            "acceptance_rule goes with a fixed number of steps",
        ),
        ("prism", "{step_to_modul: [0]}", "Did you mean step_to_module?"),
        ("prism", "{step_to_module: [0, 1]}", "step_to_module has 2 entries, but num_steps is 3"),
        ("prism", "{step_to_module: 3}", "arms[1].options.step_to_module is 3; input should be a valid list"),
        ("prism", "{step_to_module: [0, one, 1]}", "arms[1].options.step_to_module[1] is 'one'"),
        ("medusa", "{choices: [[0], [0, 2]]}", "choices holds [0, 2]; a path has one rank or more, each from 0"),
        ("medusa", "{choices: [[0], [1, 0]]}", "choices holds [1, 0], but not its beginning [1]"),
        ("medusa", "{choices: [[0], [0]]}", "choices holds a path twice"),
        ("medusa", "{choices: [[0], [1], [0, 0]]}", "set num_steps to 2 and num_draft_tokens to 4"),
    ],
)
def test_options_are_the_architectures_own(tmp_path, architecture, options, said):
    """Unknown, misshapen and unfit options name the option, its line and what is allowed."""
    arm = f"architecture: {architecture}\n    options: {options}"
    path = write(tmp_path, GOOD.replace("architecture: eagle", arm))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert said in str(caught.value)
    assert f"{path}:9: " in str(caught.value)


def test_good_options_are_kept(tmp_path):
    """A map of steps and a tree of choices that fit their trees load."""
    for architecture, options, tokens in (
        ("prism", "{step_to_module: [0, 1, 1]}", 6),
        ("medusa", "{choices: [[0], [1], [0, 0], [0, 1], [0, 0, 0]]}", 6),
    ):
        arm = f"architecture: {architecture}\n    options: {options}"
        suite = load_suite(write(tmp_path, GOOD.replace("architecture: eagle", arm)))
        assert suite.arms[1].options
        assert suite.arms[1].num_draft_tokens == tokens


def test_another_rule_of_acceptance_stands_behind_the_arms_name(tmp_path):
    """Two paths of three tokens are seven nodes; without the option the name is the arm's alone."""
    text = GOOD.replace("tokens: 6", "tokens: 7")
    assert load_suite(write(tmp_path, text)).arms[1].label == "tree"
    ruled = text.replace("architecture: eagle", "architecture: eagle\n    options: {acceptance_rule: spectr}")
    assert load_suite(write(tmp_path, ruled)).arms[1].label == "tree (spectr)"


def test_adaptive_steps_end_with_the_trees_own(tmp_path):
    """A chain's steps that end with num_steps load; any other end is told."""
    chain = GOOD.replace("topk: 2", "topk: 1").replace("tokens: 6", "tokens: 4")
    options = "architecture: eagle\n    options: {adaptive_steps: [0, 1, 3]}"
    path = write(tmp_path, chain.replace("architecture: eagle", options))
    assert load_suite(path).arms[1].options == {"adaptive_steps": [0, 1, 3]}
    with pytest.raises(SuiteError, match="adaptive_steps ends with 2, but num_steps is 3; make them equal"):
        load_suite(write(tmp_path, path.read_text().replace("[0, 1, 3]", "[1, 2]")))


def test_depth_and_width_bound_the_nodes_of_each_architecture(tmp_path):
    """Medusa's full tree of depth 3 and width 2 has 15 nodes, EAGLE's two beams propose 11."""
    medusa = GOOD.replace("architecture: eagle", "architecture: medusa")
    assert load_suite(write(tmp_path, medusa.replace("tokens: 6", "tokens: 15"))).arms[1].num_draft_tokens == 15
    with pytest.raises(SuiteError, match="at most 15 nodes"):
        load_suite(write(tmp_path, medusa.replace("tokens: 6", "tokens: 16")))


@pytest.mark.parametrize(("text", "said"), [("", "is a mapping"), ("- 1\n", "is a mapping"), ("7", "is a mapping")])
def test_what_is_no_mapping_is_refused(tmp_path, text, said):
    """An empty file, a list or a number is no suite."""
    with pytest.raises(SuiteError, match=said):
        load_suite(write(tmp_path, text))


def test_a_missing_file_is_told(tmp_path):
    """The message says where the project's own suites are."""
    with pytest.raises(SuiteError, match="there is no such file; `ls suites`"):
        load_suite(tmp_path / "none.yaml")


def test_every_suite_of_the_project_loads():
    """Suites that need local files are left to their own tests."""
    suites = sorted(Path("suites").glob("*.yaml"))
    assert suites
    for path in suites:
        assert load_suite(path).name == path.stem


def test_every_suite_for_real_models_has_a_tiny_twin():
    """What a GPU would run can be tried on the embedded target, without a download."""
    names = {path.stem for path in Path("suites").glob("*.yaml")}
    real = {name for name in names if load_suite(Path(f"suites/{name}.yaml")).target.model != "tiny"}
    real = {name for name in real if not name.endswith(("-t1", "_llama3"))}
    own = {"gallery-tiny", "gallery-sampled-tiny"}  # no target has a published draft of every architecture
    assert {f"{name}-tiny" for name in real} == {name for name in names if name.endswith("-tiny")} - own
    for name in real:
        tiny = load_suite(Path(f"suites/{name}-tiny.yaml"))
        assert tiny.target.model == "tiny"
        assert all(w.path is not None or w.source in SYNTHETIC for w in tiny.workloads)


PAPERS = ["prism_paper", "prism_paper_llama3"]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_twin_at_t_1_differs_in_name_temperature_and_mt_bench_alone(name):
    """Two files, since a suite has one temperature: they must not drift apart. MT-Bench is always run at T=0 there."""
    cold, warm = load_suite(Path(f"suites/{name}.yaml")), load_suite(Path(f"suites/{name}-t1.yaml"))
    sampling = warm.sampling.model_copy(update={"temperature": 0.0})
    assert warm.sampling.temperature == 1
    same = {"name": name, "sampling": sampling, "workloads": cold.workloads}
    assert warm.model_copy(update=same) == cold
    assert cold.workloads[0].name == "mt_bench"
    assert warm.workloads == cold.workloads[1:]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_suites_have_its_settings(name):
    """80 of EAGLE's questions a set, 512 tokens, 1,024 a turn on MT-Bench, the safety system prompt, bf16, cache on."""
    suite = load_suite(Path(f"suites/{name}.yaml"))
    assert (suite.target.dtype, suite.prefix_cache, suite.sampling.max_tokens) == ("bfloat16", True, 512)
    assert {(arm.num_steps, arm.topk, arm.num_draft_tokens) for arm in suite.arms[1:]} == {(6, 4, 16)}
    assert [workload.max_tokens for workload in suite.workloads] == [1024, None, None, None, None, None]
    assert {workload.subset for workload in suite.workloads[1:]} == {"eagle"}
    (system,) = {workload.system for workload in suite.workloads}
    assert system.startswith("You are a helpful, respectful and honest assistant.")
    assert system.endswith("please don't share false information.")
    assert "\n\nIf a question does not make any sense" in system


def test_raw_text_is_sent_without_instructions(tmp_path):
    """Unless the suite gives one itself."""
    (tmp_path / "set.jsonl").write_text("")
    text = GOOD.replace("source: synthetic, family: arithmetic", "source: humaneval, path: set.jsonl")
    assert load_suite(write(tmp_path, text)).workloads[0].instruction is None
    assert load_suite(write(tmp_path, text + "rendering: {raw: true}\n")).workloads[0].instruction == ""
    own = text.replace("path: set.jsonl", "path: set.jsonl, instruction: Go on.")
    assert load_suite(write(tmp_path, own + "rendering: {raw: true}\n")).workloads[0].instruction == "Go on."


def test_the_plan_counterbalances_the_arms(tmp_path):
    """Every cell once; each arm comes first in one of two blocks."""
    cells = plan_cells(load_suite(write(tmp_path, GOOD)))
    assert len(cells) == len(set(cells)) == 4
    assert [cell.arm for cell in cells] == ["vanilla", "tree", "vanilla", "tree"] or cells[0].arm != cells[2].arm


def test_three_arms_each_stand_at_different_places(tmp_path):
    """Over the blocks no arm keeps one place in the order."""
    more = GOOD.replace("blocks: 2", "blocks: 6").replace(
        "  - name: tree", "  - name: again\n    architecture: vanilla\n  - name: tree"
    )
    cells = plan_cells(load_suite(write(tmp_path, more)))
    for arm in ("vanilla", "again", "tree"):
        places = {[c.arm for c in cells if c.block == block].index(arm) for block in range(6)}
        assert len(places) > 1


def test_the_estimate_counts_requests(tmp_path):
    """4 prompts, 2 arms, 2 blocks."""
    assert estimate(load_suite(write(tmp_path, GOOD))).num_requests == 16


def test_open_loops_are_named_and_estimated(tmp_path):
    """By rate, burst or trace, beside closed loops; a cell takes at least as long as its requests arrive."""
    (tmp_path / "chat.jsonl").write_text('{"at_s": 0}\n{"at_s": 5000}\n')
    text = GOOD.replace("  - concurrency: 1\n", "  - {concurrency: 8}\n  - {rate: 4}\n  - {rate: 0.5, burst: 2}\n")
    suite = load_suite(write(tmp_path, text.replace("blocks: 2", "  - {trace: chat.jsonl}\nblocks: 1")))
    names = ["c=8", "4/s", "0.5/s by 2", "trace chat"]
    assert [point.name for point in suite.load] == names
    cells = plan_cells(suite)
    assert [cell.load for cell in cells if cell.arm == "tree"] == names
    assert {cell.concurrency for cell in cells} == {8, None}
    assert suite.running_requests == 48
    found = estimate(suite)
    assert found.num_requests == 2 * (4 + 4 + 4 + 2)
    assert found.time_s > 10000


def test_the_schema_describes_the_suite():
    """Editors find the fields and their meaning."""
    schema = suite_schema()
    assert "launches" in schema["properties"]
    assert "topk" in schema["$defs"]["Arm"]["properties"]


def test_random_weights_go_with_simulated_acceptance_alone(tmp_path):
    """Nobody is shown acceptance of random weights: a draft that does not simulate it is refused, with its line."""
    with pytest.raises(SuiteError, match=r"suite\.yaml:7: arms\[1\]\.simulated_acceptance is missing"):
        load_suite(write(tmp_path, GOOD.replace(*RANDOM)))
    suite = load_suite(write(tmp_path, GOOD.replace(*RANDOM).replace("num_steps: 3", ALPHAS)))
    assert suite.simulates
    assert suite.arms[1].simulated_acceptance == (0.8, 0.7, 0.6)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_steps: 3", ALPHAS.replace(", 0.6", ""), "has 2 shares, but num_steps is 3; give one for every step"),
        ("num_steps: 3", ALPHAS.replace("0.8", "1.8"), "simulated_acceptance[0] is 1.8"),
        ("architecture: vanilla", "architecture: vanilla\n    simulated_acceptance: [0.5]", "decodes without a draft"),
        (
            "num_steps: 3\n    topk: 2\n    num_draft_tokens: 6",
            ALPHAS + "\n    topk: 1\n    num_draft_tokens: 4\n    options: {adaptive_steps: [1, 3]}",
            "drawn for a fixed tree, accepted as SGLang does; leave options.adaptive_steps out.",
        ),
        (
            "architecture: eagle\n    checkpoint: tiny/eagle\n    num_steps: 3",
            "architecture: token_recycling\n    " + ALPHAS,
            "its draft learns from the tokens themselves",
        ),
    ],
)
def test_simulated_acceptance_that_cannot_be_is_told(tmp_path, old, new, said):
    """One share between 0 and 1 for every step, of a draft whose rounds SGLang's EAGLE worker makes."""
    with pytest.raises(SuiteError) as error:
        load_suite(write(tmp_path, GOOD.replace(old, new, 1)))
    assert said in str(error.value)


BY_WORKLOAD = """num_steps: 3
    simulated_acceptance:
      sums: [0.8, 0.7, 0.6]
      more: [0.5, 1, 0]"""
TWO = (
    "family: arithmetic, num_prompts: 4}",
    "family: arithmetic, num_prompts: 4}\n  - {name: more, source: synthetic, family: dialogue, num_prompts: 4}",
)


def test_simulated_acceptance_may_be_given_by_workload(tmp_path):
    """A list for each, and recorded as it is read."""
    suite = load_suite(write(tmp_path, GOOD.replace(*TWO).replace("num_steps: 3", BY_WORKLOAD)))
    assert suite.simulates
    assert suite.arms[1].simulated_acceptance == {"sums": (0.8, 0.7, 0.6), "more": (0.5, 1.0, 0.0)}
    assert Suite.model_validate_json(suite.model_dump_json()) == suite
    assert "by workload" not in json.dumps(suite_schema())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("more: [0.5, 1, 0]", "", "suite.yaml:11: arms[1].simulated_acceptance lacks more; give the α_k of every"),
        (
            "more: [",
            "mor: [",
            "suite.yaml:13: arms[1].simulated_acceptance.mor is of no workload; allowed: sums, more.",
        ),
        ("[0.5, 1, 0]", "[0.5]", "suite.yaml:13: arms[1].simulated_acceptance.more has 1 shares, but num_steps is 3"),
        ("[0.5, 1, 0]", "[0.5, 2, 0]", "suite.yaml:13: arms[1].simulated_acceptance.more[1] is 2; "),
        ("[0.5, 1, 0]", "much", "suite.yaml:13: arms[1].simulated_acceptance.more is 'much'; "),
    ],
)
def test_simulated_acceptance_by_workload_is_strict(tmp_path, old, new, said):
    """Every workload of the suite, no other, and one share for every step."""
    text = GOOD.replace(*TWO).replace("num_steps: 3", BY_WORKLOAD).replace(old, new, 1)
    with pytest.raises(SuiteError) as error:
        load_suite(write(tmp_path, text))
    assert said in str(error.value)


def test_a_load_point_can_send_fewer_prompts(tmp_path):
    """The first so many of each workload: 2 blocks and 2 arms send 2 at one point and all 4 at the other."""
    text = GOOD.replace("  - concurrency: 1", "  - {concurrency: 1, num_prompts: 2}\n  - {concurrency: 2}")
    suite = load_suite(write(tmp_path, text))
    assert (suite.prompts_at("c=1"), suite.prompts_at("c=2")) == (2, None)
    assert estimate(suite).num_requests == 2 * 2 * (2 + 4)


def test_a_recorded_suites_files_are_found_elsewhere(tmp_path: Path) -> None:
    """By their names, where the recorded path leads nowhere; the others stay."""
    (tmp_path / "here").mkdir()
    for name in ("prompts.jsonl", "chat.jinja", "arrivals.jsonl"):
        (tmp_path / "here" / name).touch()
    (tmp_path / "kept.jsonl").touch()
    recorded = load_suite(Path("suites/selftest.yaml")).model_dump(mode="json")
    recorded["workloads"] = [
        {"name": "moved", "source": "prompts", "path": "/gone/prompts.jsonl"},
        {"name": "kept", "source": "prompts", "path": str(tmp_path / "kept.jsonl")},
        {"name": "lost", "source": "prompts", "path": "/gone/lost.jsonl"},
    ]
    recorded["rendering"]["template"] = "/gone/chat.jinja"
    recorded["load"] = [{"trace": "/gone/arrivals.jsonl"}]
    suite = relocated(Suite.model_validate_json(json.dumps(recorded)), tmp_path / "here")
    found = [workload.path for workload in suite.workloads]
    assert found == [str(tmp_path / "here/prompts.jsonl"), str(tmp_path / "kept.jsonl"), "/gone/lost.jsonl"]
    assert suite.rendering.template == str(tmp_path / "here/chat.jinja")
    assert suite.load[0].trace == str(tmp_path / "here/arrivals.jsonl")
