"""Updates of a served draft: where the target rejected, what is learnt there, and that it can be done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from draftbench.drafts.api import Checkpoint, Tree
from draftbench.drafts.online.spec import SPEC
from draftbench.drafts.standalone.model import new_standalone, standalone_config
from draftbench.drafts.training.features import features_of
from draftbench.drafts.training.online_update import at_rejected, distance, main, update
from draftbench.drafts.updated import JOB, OUTCOME, ServedRequest, UpdateJob, UpdateOutcome, rejected_places
from draftbench.harness.errors import CheckpointError
from draftbench.harness.host.provenance import file_sha256
from tests.fakes.target import CONFIG, new_target, own_answers

LOSSES = ("kl", "reverse_kl", "jsd", "tvd")


def test_places_are_those_of_the_targets_token_for_a_rejected_draft():
    """A first token from the prefill; rounds of 2, 0 and all 3 accepted drafts, and one that the output's end cuts off.

    Places: 0 | 1 2 [3] | [4] | 5 6 7 8 | 9 [10], where the output ends before 10 or after it.
    """
    assert rejected_places((2, 0, 3, 1), 3, 11) == (3, 4, 10)
    assert rejected_places((2, 0, 3, 1), 3, 10) == (3, 4)
    assert rejected_places((), 3, 1) == ()


def test_what_is_learned_is_the_entry_that_foretells_the_rejected_token():
    """Entry i holds token i + 1 and foretells token i + 2."""
    example = own_answers(new_target(), 1)[0]
    batch = features_of(new_target(), [example]).batch([0])
    request = ServedRequest(prompt_ids=example.prompt_ids, output_ids=example.output_ids, rejected=(1, 4))
    learned = at_rejected(batch, [request])
    places = learned.learned_BT[0].nonzero().flatten().tolist()
    assert learned.next_tokens_BT[0, places].tolist() == [example.output_ids[1], example.output_ids[4]]


@pytest.mark.parametrize("kind", LOSSES)
def test_distances_are_none_between_equals_and_as_defined_between_others(kind: str):
    """By hand for the draft's (1/2, 1/2) and the target's (3/4, 1/4)."""
    p, q = torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[0.75, 0.25]]).double()
    middle = (p + q) / 2
    kl = lambda a, b: (a * (a / b).log()).sum()  # noqa: E731
    by_hand = {
        "kl": kl(q, p), "reverse_kl": kl(p, q), "tvd": torch.tensor(0.25).double(),
        "jsd": (kl(q, middle) + kl(p, middle)) / 2,
    }  # fmt: skip
    torch.testing.assert_close(distance(p.log(), q.log(), kind)[0], by_hand[kind])
    torch.testing.assert_close(distance(q.log() + 3, q.log(), kind)[0], torch.tensor(0.0).double())


@pytest.fixture
def job(tmp_path: Path) -> UpdateJob:
    """A draft that knows nothing, and ten answers of its target, all of whose tokens but the first were rejected."""
    target, draft = new_target(), tmp_path / "draft"
    target.save_pretrained(tmp_path / "target")
    draft.mkdir()
    config: dict[str, Any] = standalone_config(CONFIG, 1)
    (draft / "config.json").write_text(json.dumps(config))
    embedding = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    save_file({k: v.half() for k, v in new_standalone(CONFIG, embedding, 3, 1).state_dict().items()},
              draft / "model.safetensors")  # fmt: skip
    served = [
        ServedRequest(prompt_ids=each.prompt_ids, output_ids=each.output_ids, rejected=tuple(range(1, 9)))
        for each in own_answers(target, 10)
    ]
    options = {"loss": "kl", "steps": 20, "batch": 4, "learning_rate": 0.01}
    return UpdateJob(
        architecture="online", checkpoint=draft, target=tmp_path / "target", options=options, seed=(0, 0),
        num_threads=1, requests=tuple(served),
    )  # fmt: skip


def made(job: UpdateJob, out: Path, **options: Any) -> UpdateOutcome:
    out.mkdir()
    return update(job.model_copy(update={"options": {**job.options, **options}}), out)


@pytest.mark.parametrize("kind", LOSSES)
def test_an_update_brings_the_draft_nearer_to_the_target(job: UpdateJob, tmp_path: Path, kind: str):
    """By each of the distances."""
    outcome = made(job, tmp_path / "out", loss=kind, steps=100, batch=10)
    assert outcome.loss_after < 0.9 * outcome.loss_before
    assert outcome.num_steps == 100


def test_an_update_can_be_made_again(job: UpdateJob, tmp_path: Path):
    """The same job gives the same weights; another seed, block or loss gives others."""
    first = made(job, tmp_path / "first")
    assert first.weights_sha256 == file_sha256(tmp_path / "first" / "model.safetensors")
    assert made(job, tmp_path / "again").weights_sha256 == first.weights_sha256
    assert made(job, tmp_path / "other", loss="tvd").weights_sha256 != first.weights_sha256
    later = job.model_copy(update={"seed": (0, 1)})
    assert made(later, tmp_path / "later").weights_sha256 != first.weights_sha256


def test_an_update_begins_where_the_one_before_ended(job: UpdateJob, tmp_path: Path):
    """What it writes is a checkpoint, in fp32: small changes are not lost."""
    first = made(job, tmp_path / "first")
    second = made(job.model_copy(update={"checkpoint": tmp_path / "first"}), tmp_path / "second")
    assert second.loss_before == pytest.approx(first.loss_after, rel=1e-5)
    assert second.loss_after < first.loss_after


def test_a_head_that_is_not_the_embedding_is_learnt_too(job: UpdateJob, tmp_path: Path):
    """As in LLaMAs that others publish: both are in the file, and come apart."""
    config = json.loads((job.checkpoint / "config.json").read_text())
    (job.checkpoint / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    weights = load_file(job.checkpoint / "model.safetensors")
    head = weights["model.embed_tokens.weight"].clone()
    save_file({**weights, "lm_head.weight": head}, job.checkpoint / "model.safetensors")
    outcome = made(job, tmp_path / "out")
    assert outcome.loss_after < 0.9 * outcome.loss_before
    new = load_file(tmp_path / "out" / "model.safetensors")
    assert new.keys() == {*weights, "lm_head.weight"}
    assert not torch.equal(new["lm_head.weight"], new["model.embed_tokens.weight"])


def test_another_language_model_is_refused_by_name(job: UpdateJob, tmp_path: Path):
    """It could be served, and not be trained."""
    config = {**json.loads((job.checkpoint / "config.json").read_text()), "architectures": ["Qwen3ForCausalLM"]}
    found = Checkpoint(job.checkpoint, config, {}, CONFIG)
    with pytest.raises(CheckpointError, match=r"architectures is \['Qwen3ForCausalLM'\]; online can update Llama"):
        SPEC.read(found, SPEC.options(), Tree(3, 1, 4))


def test_a_process_leaves_its_outcome_last(job: UpdateJob, tmp_path: Path):
    """From the job in its folder."""
    out = tmp_path / "out"
    out.mkdir()
    (out / JOB).write_text(job.model_dump_json())
    main(out)
    outcome = UpdateOutcome.model_validate_json((out / OUTCOME).read_text())
    assert outcome.weights_sha256 == file_sha256(out / "model.safetensors")
    assert outcome.processor_s > 0
