"""The page of a training study, from ledgers and accepted drafts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.metrics.trained import step_rates
from draftbench.reports.files import read_run
from draftbench.reports.study_page import read_trained, write_study


def draft(folder: Path, name: str, seed: int, accepted: list[list[int]], samples: int = 100, seen: int = 999) -> None:
    """A trained draft's folder: one held-out answer for each list of rounds, of two kinds in turn."""
    ledger = {
        "draft": name,
        "budget": {"seed": seed, "axis": "tokens", "amount": 1e6, "num_steps": 9, "learning_rate": 0.01},
        "data": {"corpus_sha256": "abcdef0123", "num_samples": samples, "num_tokens": 5},
        "learning_rates": [{"rate": 0.01}],
        "num_entries_seen": seen, "training_flops": 1e9, "num_trained_parameters": 7, "num_active_parameters": 7,
        "validation_losses": [[9, 1.5]], "wall_s": 3.0,
        "heldout_acceptance": {"tree": {"size": {"num_steps": 2, "topk": 1, "num_draft_tokens": 3}}},
    }  # fmt: skip
    out = folder / f"{name}-s{seed}"
    out.mkdir(parents=True)
    (out / "training.json").write_text(json.dumps(ledger))
    (out / "loss.jsonl").write_text('{"tokens": 9, "validation_loss": 1.5}\n')
    lines = [
        {"group": "code" if n % 2 else "chat", "tokens": sum(rounds) + len(rounds), "accepted": rounds}
        for n, rounds in enumerate(accepted)
    ]
    (out / "acceptance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """EAGLE accepts 1 and 0 in turn, HASS 2 and 1; PRISM as HASS."""
    draft(tmp_path, "eagle", 0, [[1, 0], [1, 0], [1, 0], [0, 1]])
    draft(tmp_path, "hass", 0, [[2, 1], [2, 1], [1, 2], [2, 1]])
    draft(tmp_path, "hass", 1, [[2, 1], [2, 1], [1, 2], [2, 1]])
    draft(tmp_path, "prism", 0, [[2, 1], [2, 1], [1, 2], [2, 1]])
    draft(tmp_path, "eagle-25", 0, [[0, 0], [1, 0], [0, 0], [0, 0]], samples=25)
    return tmp_path


def test_the_page_counts_tokens_over_rounds(folder: Path, tmp_path: Path) -> None:
    """8 rounds of 4 accepted drafts are 1.5 tokens a round; equal drafts are not shown to differ."""
    text = write_study([folder], tmp_path / "page").read_text()
    rows = {cells[1].strip(): cells for line in text.splitlines() if len(cells := line.split("|")) > 3}
    assert rows["eagle < hass"][2].strip() == "1.667 [1.667, 1.667]"
    assert [cell.strip() for cell in rows["eagle < hass"][3:5]] == ["1, 2", "seen"]
    assert rows["hass < prism"][4].strip() == "not shown"
    assert rows["stacked-2 < prism"][4].strip() == "not trained"
    assert "| hass    |       2 | 2.50 [2.50, 2.50]" in text
    assert "25 samples" in text
    assert "abcdef01" in text
    assert {path.name for path in (tmp_path / "page").glob("*.svg")} == {"steps.svg", "losses.svg", "sizes.svg"}


def test_the_page_answers_what_prisms_study_asks(folder: Path, tmp_path: Path) -> None:
    """Each question with its interval, the artifact's ratio beside it; questions without their arms are left out."""
    draft(folder, "prism-layers", 0, [[2, 2], [2, 2], [2, 2], [2, 2]])
    text = write_study([folder], tmp_path / "page").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "?" in line]
    assert [line[0] for line in lines] == [
        "Does PRISM accept more than HASS, trained as long?", "What do three layers add to PRISM?",
    ]  # fmt: skip
    assert lines[0][2:] == ["1.000 [1.000, 1.000]", "1, 2", "not shown", "–"]
    assert lines[1][2:] == ["1.200 [1.200, 1.200]", "1, 1", "more", "1.040"]


def test_alpha_is_a_share_of_the_rounds_that_came_so_far(folder: Path) -> None:
    """HASS accepts step 1 in all rounds, step 2 in half of them."""
    assert step_rates([read_trained(folder / "hass-s0")]) == [1.0, 0.5]


def test_the_page_is_made_again_from_its_own_folder(folder: Path, tmp_path: Path) -> None:
    """What was copied is enough, and remarks become its last part."""
    out = tmp_path / "page"
    first = write_study([folder], out).read_text()
    (out / "remarks.md").write_text("## Remarks\n\nNone.\n")
    assert write_study([out], out).read_text() == first + "\n## Remarks\n\nNone.\n"


def test_a_folder_without_drafts_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(RecordError, match="no trained drafts"):
        write_study([tmp_path], tmp_path / "page")


def test_the_page_tells_the_speed_of_a_run(folder: Path, tmp_path: Path) -> None:
    """The rows of the run, arm by arm, and a link to its report."""
    run = Path("reports/published/quickstart-cpu")
    text = write_study([folder], tmp_path / "page", run).read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| prism") and "x" in line]
    (row,) = [row for row in read_run(run).rows if (row.arm, row.workload) == ("prism", "arithmetic")]
    assert f"{row.speedup:.2f}x [{row.speedup_low:.2f}, {row.speedup_high:.2f}]" in line
    assert "quickstart-cpu/report.md)" in text
    assert "| vanilla" not in text


def test_the_page_has_a_line_through_layers_and_tokens(folder: Path, tmp_path: Path) -> None:
    """Acceptance that grows by one with ten times the tokens and with twice the layers is found to do so."""
    for layers in (1, 2, 4):
        for tens, tokens in enumerate((100, 1000, 10_000)):
            draft(folder, f"eagle3-{layers}-{tens}k", 0, [[tens + layers.bit_length() - 1] * 3] * 4, seen=tokens)
    text = write_study([folder], tmp_path / "page").read_text()
    assert "ten times the tokens +1.00 [+1.00, +1.00] tokens a round, twice the layers +1.00 [+1.00, +1.00]" in text
    assert "it explains 100% of the variance between these drafts, the farthest lies 0.00 off" in text
    line = next(line for line in text.splitlines() if line.startswith("| 4 "))
    assert [cell.strip() for cell in line.split("|")[2:5]] == [f"{n:.2f} [{n:.2f}, {n:.2f}]" for n in (3, 4, 5)]


def test_drafts_of_one_size_have_no_such_line(folder: Path, tmp_path: Path) -> None:
    """One number of layers is no grid; three drafts are too few for a line."""
    for tens in (1, 2):
        draft(folder, f"eagle3-1-{tens}k", 0, [[tens]] * 4, seen=100 * tens)
    assert "Layers and tokens" not in write_study([folder], tmp_path / "page").read_text()
    draft(folder, "eagle3-2-1k", 0, [[2]] * 4, seen=100)
    assert "Too few drafts for a line." in write_study([folder], tmp_path / "page").read_text()
