"""What must not leave a host when a run is published, and what has to stay."""

from __future__ import annotations

import json

import pytest

from draftbench.harness.store import RunStore
from draftbench.reports.publish import prepare
from draftbench.reports.redact import Redactor, names_here

HEX = "0123456789abcdef0123456789abcdef01234567"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq2w3e4r5\n-----END RSA PRIVATE KEY-----"
SLACK, GOOGLE, AWS = (
    "xoxb-" + "123456789012-" * 2 + "a1B2c3D4e5F6",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "AKIA" + "Q3EGRIXLMQEXAMPL",
)
NPM, STRIPE, GITHUB = "npm_" + "a1B2" * 9, "sk_live_" + "a1B2c3D4" * 3, "ghp_" + "a1B2" * 9
SECRETS = {
    "Slack": (SLACK, SLACK),
    "Slack's hook": ("https://hooks.slack.com/services/T0AAA/B0BBB/c1C2c3C4c5C6c7C8c9C0c1C2", "c1C2c3C4c5C6"),
    "Google": (f"key {GOOGLE}", GOOGLE),
    "AWS": (AWS, AWS),
    "AWS's secret": ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
    "a private key": (f"read {PEM} from it", "MIIEpAIBAAKCAQEA7"),
    "a private key cut off": (PEM[:60], "MIIEpAIBAAKCAQEA7"),
    "a password": ("login failed: password=hunter2-and-more", "hunter2-and-more"),
    "a password in JSON": ('{"password": "hunter2-and-more"}', "hunter2-and-more"),
    "a password of an address": ("postgres://app:hunter2-and-more@10.0.0.1/x", "hunter2-and-more"),
    "a key of the environment": ("OPENAI_API_KEY=a1b2c3d4e5f6 python x.py", "a1b2c3d4e5f6"),
    "a key on a command line": ("sglang --api-key a1b2c3d4e5f6 --port 1", "a1b2c3d4e5f6"),
    "npm": (f"//packages.example/:_authToken={NPM}", NPM),
    "40 hex digits": (f"wandb: {HEX}", HEX),
    "Stripe": (STRIPE, STRIPE),
    "GitHub": (f"git clone with {GITHUB}", GITHUB),
    "a bearer": ("Authorization: Bearer abc.def-123", "abc.def-123"),
    "another host": ("Cannot connect to host gpu-node-17:30000 ssl:default", "gpu-node-17"),
    "another host's whole name": ("refused by inference.prod.example.com", "inference.prod.example.com"),
    "a name within the company": ("no answer of db01.corp.internal:5432", "db01.corp.internal"),
    "a machine of a cloud": ("worker ip-10-0-12-7 lost", "ip-10-0-12-7"),
}  # fmt: skip
KEPT = (
    "max_tokens=96, num_tokens: 12, eos_token=151645", "sha256 " + "ab" * 32, "meta-llama/Llama-3.1-8B", "torch 2.13.0",
    "results.json: 12", "speculative_token_map", "hf_chat_template_name", "huggingface.co/datasets", "12:34:56",
    "launch 0 block 1 chat c=8", "the token is farther off", "1.45x [0.93, 2.27]", "api_key_env",
)  # fmt: skip


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_replaced(kind: str) -> None:
    """Alone, and in the middle of what an engine's log said."""
    text, secret = SECRETS[kind]
    for said in (text, f"engine said: {text}\nand died"):
        redactor = Redactor(names_here([said]))
        assert secret not in redactor.text(said)
        assert redactor.replaced, "what was found is shown"


@pytest.mark.parametrize("text", KEPT)
def test_what_is_none_stays(text: str) -> None:
    """Counts, hashes, versions, names of settings."""
    assert Redactor(()).text(text) == text


def test_commits_stay_where_they_are_told() -> None:
    """The project's and those of models are 40 hex digits too."""
    value = {"git_commit": HEX, "target": {"revision": HEX}, "note": HEX}
    assert Redactor(()).value(value) == {"git_commit": HEX, "target": {"revision": HEX}, "note": "SECRET"}


def test_a_published_run_has_none_of_them(run, tmp_path) -> None:
    """Wherever in the manifest and the errors they stood; the kind of each is shown."""
    store = RunStore(run)
    store.note(packages={f"package {number}": text for number, (text, _) in enumerate(SECRETS.values())})
    draft = prepare(run, "mine", published=tmp_path / "published")
    shown = {after for _, after, _ in draft.replaced}
    assert "SECRET (Slack Token)" in shown
    assert "SECRET (setting of a secret)" in shown
    report = draft.publish()
    written = "".join(path.read_text() for path in report.parent.iterdir() if path.is_file())
    for kind, (_, secret) in SECRETS.items():
        assert secret not in written, kind
        assert json.dumps(secret)[1:-1] not in written, kind
