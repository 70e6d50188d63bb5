"""What leaves a run before it is published: names, secrets, absolute paths, token ids of prompts and outputs."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import re
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel

from draftbench.harness.manifest import Manifest
from draftbench.harness.store import FILES
from draftbench.reports.secrets_in import secrets_in

_PUBLIC = r"huggingface\.co|github\.com|localhost"
_ENDINGS = (
    "internal|local|localdomain|lan|corp|intranet|cluster|svc|home|arpa|com|net|org|edu|gov|io|ai|dev|cloud|tech|app"
)
_PATTERN = re.compile(
    r"(?P<MAIL>[\w.+-]+@[\w-]+\.[\w.-]+)"
    r"|(?P<URL>\w+://(?!127\.0\.0\.1|localhost|huggingface\.co|github\.com)[^\s'\"]+)"
    r"|(?P<ADDRESS>\b(?!127\.0\.0\.1\b|0\.0\.0\.0\b)(?:\d{1,3}\.){3}\d{1,3}\b"
    r"|(?<![\w:.])(?=[\da-fA-F]*:[\da-fA-F:]*:)(?=[\d:]*[a-fA-F]|[\da-fA-F]*::|(?:[\da-fA-F]+:){7})"
    r"(?!::1?(?![\w:]))(?:[\da-fA-F]{0,4}:){2,7}[\da-fA-F]{0,4}(?![\w:]))"
    rf"|(?P<HOST>(?i:(?<![\w./:@-])(?!(?:[\w-]+\.)*(?:{_PUBLIC})\b)(?:[a-z0-9][a-z0-9-]*\.)+(?:{_ENDINGS})(?::\d+)?"
    r"(?!\.?\w|-)|(?<![\w./:@=-])(?!localhost:)[a-z][a-z0-9-]*[a-z0-9]:\d{4,5}(?![\w:.])|(?<=\bhost )[\w.-]*\d[\w.-]*"
    r"|\bip-\d+-\d+-\d+-\d+\b))"
    r"|(?P<FOLDER>(?<![\w])[A-Za-z]:\\[^\s'\":*?<>|]+|\\\\[\w.-]+\\[^\s'\":*?<>|]+|(?<=\s-[A-Z])/[\w.@+~%/-]+)"
    r"|(?P<PATH>^/[^\n:]+/[^\n:]+$|(?<![\w.)}\]/*<-])(?:(?:/[\w.@+~%-]+){2,}/?|/[\w.@+~%-]{2,}/?))"
)
_SECRET_KEY = re.compile(r"(?i)(^|_)(api_?key|token|secret|password|passwd|access_key|private_key|credentials?)$")
_COMMIT_KEYS = {"git_commit", "revision"}
_HOME = re.compile(r"/(?:home|Users)/([\w.-]+)")
_HOSTS = re.compile(r"\w://(?:[^/@\s\"']*@)?([A-Za-z][\w.-]*)")
_COMMON = {"root", "user", "admin", "ubuntu", "debian", "localhost", "runner", "nobody"}
"""Names that tell nothing and are words elsewhere."""


@cache
def _own_words() -> frozenset[str]:
    """Names of fields and of choices in manifests, suites and records: a person of such a name must not unname them."""
    kinds: tuple[type[BaseModel], ...] = (Manifest, *FILES)
    return frozenset(word for kind in kinds for word in _words_of(kind.model_json_schema()))


def _words_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        yield from (word for word in (*schema.get("enum", ()), schema.get("const")) if isinstance(word, str))
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _words_of(part)


class Redactor:
    """Rewrites the strings and token ids of one run, and counts what it replaced.

    The same token of the same prompt gets the same number everywhere in the run, so that equal outputs stay equal and
    repetitions stay repetitions; the key that would lead back is never written.
    """

    def __init__(self, names: Iterable[str]) -> None:
        words = {name for name in names if len(name) > 2 and name.lower() not in _COMMON}
        spelled = "|".join(re.escape(name) for name in sorted(words, key=len, reverse=True))
        self._names = re.compile(rf"(?<![A-Za-z0-9])(?:{spelled})(?![A-Za-z0-9])", re.IGNORECASE) if words else None
        self._key = secrets.token_bytes(16)
        self._known: dict[tuple[Any, ...], dict[int, int]] = {}
        self.replaced: Counter[tuple[str, str]] = Counter()
        self.num_prompts = 0
        self.num_outputs = 0

    def text(self, text: str) -> str:
        """A string without names, secrets, addresses and absolute paths; of a path its last part stays."""
        for secret, kind in secrets_in(text):
            times = text.count(secret)
            self.replaced[secret, f"SECRET ({kind})"] += times
            text = text.replace(secret, "SECRET")
        text = _PATTERN.sub(self._replace, text)
        return self._names.sub(lambda found: self._count(found[0], "NAME"), text) if self._names else text

    def value(self, value: Any) -> Any:
        """The same nested lists and objects, with every string rewritten and every secret setting blanked."""
        if isinstance(value, str):
            return value if value in _own_words() else self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {
                (key if key in _own_words() else self.text(key)): self._count(item, "SECRET")
                if isinstance(item, str) and item and _SECRET_KEY.search(key)
                else item
                if key in _COMMIT_KEYS and isinstance(item, str) and re.fullmatch(r"[0-9a-f]{40}(-dirty)?", item)
                else self.value(item)
                for key, item in value.items()
            }
        return value

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """A record of any file: strings rewritten, prompts dropped (their id and hash stay), outputs renumbered."""
        plain = {key: value for key, value in record.items() if key not in ("prompt_ids", "output_ids", "output_text")}
        kept = self.value({key: value for key, value in plain.items() if key not in ("chunks", "rounds")})
        kept |= {key: record[key] for key in ("chunks", "rounds") if key in record}
        if "prompt_ids" in record:
            self.num_prompts += 1
            kept["prompt_ids"] = []
        if "output_text" in record:
            kept["output_text"] = None if record["output_text"] is None else ""
        if "continuations" in record:
            self.num_outputs += len(record["continuations"])
            kept["continuations"] = [self._renumbered(ids, record["prompt_id"]) for ids in record["continuations"]]
        if "output_ids" in record:
            self.num_outputs += 1
            workload = record["workload"] if "workload" in record else record["cell"]["workload"]
            kept["output_ids"] = self._renumbered(record["output_ids"], workload, record["prompt_id"], record["turn"])
        return {key: kept[key] for key in record}

    def _renumbered(self, ids: list[int], *prompt: Any) -> list[int]:
        known = self._known.setdefault(prompt, {})
        for token in ids:
            if token not in known:
                digest = hashlib.blake2b(repr((prompt, token)).encode(), key=self._key, digest_size=6).digest()
                known[token] = int.from_bytes(digest)
        return [known[token] for token in ids]

    def _replace(self, found: re.Match[str]) -> str:
        path = (found["PATH"] or found["FOLDER"] or "").replace("\\", "/").rstrip("/")
        if not path or _HOME.fullmatch(path):
            return self._count(found[0], str(found.lastgroup))
        return self._count(found[0], f"PATH/{path.rpartition('/')[2]}")

    def _count(self, before: str, after: str) -> str:
        self.replaced[before, after] += 1
        return after


def names_here(texts: Iterable[str]) -> set[str]:
    """Names of this user and host, and in the texts of users by their home folders and of hosts by their addresses."""
    names = {socket.gethostname(), socket.gethostname().split(".")[0]}
    with contextlib.suppress(KeyError, OSError):  # a user id without a name, as in containers
        names.add(getpass.getuser())
    for text in texts:
        names.update(_HOME.findall(text))
        for host in _HOSTS.findall(text):
            if not re.fullmatch(rf"(?:[\w-]+\.)*(?:{_PUBLIC})", host):
                label = host.split(".")[0]
                names.update({host, label} if re.search(r"[\d-]", label) else {host})
    return names
