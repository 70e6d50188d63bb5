"""What runs inside the sandboxes: a model's program in one process, the tests that it has to pass in another.

Both are started by sandbox.py as `python -I sandboxed.py ROLE`, with the standard library alone. Only values pass
between them, as JSON: the program is told the arguments of a call and never what is expected, it can reach no frame or
memory of the tests, and an object of its own is a handle to the tests, equal to nothing but itself. Both are one file,
because a sandbox is shown no other.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import os
import resource
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

CPU_S, MEMORY_BYTES, MESSAGE_BYTES = 10, 1 << 30, 1 << 24
STARTED, PASSED = b"S", b"P"
"""What the tests' process says: both sides run, and then that every test held."""
SEQUENCES = {kind.__name__: kind for kind in (list, tuple, set, frozenset, deque)}


def main(role: str, *pipes: str) -> None:
    """One of the two processes.

    Args:
        role: program, or tests.
        pipes: for the tests, the numbers of the files by which they ask the program and hear its answers.
    """
    own = os.dup(0), os.dup(1)
    # What the program prints goes nowhere: nobody has to keep it.
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    limit()
    sys.set_int_max_str_digits(0)
    if role == "program":
        serve(*own)
    else:
        job = json.loads(os.fdopen(own[0], "rb").read())
        link = Link(*map(int, pipes))
        link.start(job["program"])
        os.write(own[1], STARTED)
        check(link, job)
        os.write(own[1], PASSED)
    os._exit(0)  # and not what a program registered for the end


def limit() -> None:
    """Bound what one process takes; that there is no second one is the system call filter's part."""
    for what, value in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))


def serve(requests: int, replies: int) -> None:
    """The program's side: load it, then do what the tests ask for."""
    held: list[Any] = []
    text = receive(requests)
    send(replies, "here")
    names: dict[str, Any] = {"__name__": "answer"}
    send(replies, _told(partial(_load, text, names), held))
    while True:
        request = receive(requests)
        send(replies, _told(partial(_done, request, names, held), held, request))


def _load(text: str, names: dict[str, Any]) -> None:
    exec(compile(text, "answer.py", "exec"), names)


def _done(request: dict[str, Any], names: dict[str, Any], held: list[Any]) -> Any:
    if request["do"] == "name":
        found = names[request["name"]]
        return AnyModule() if isinstance(found, type(os)) else found
    it = held[request["of"]]
    if request["do"] == "get":
        return getattr(it, request["name"])
    if request["do"] == "set":
        return setattr(it, request["name"], unpack(request["value"], held.__getitem__))
    args, named = (unpack(request[key], held.__getitem__) for key in ("args", "named"))
    request["after"] = args
    return it(*args, **named)


class AnyModule:
    """Stands for any module: the tests import their own."""


def _told(do: Callable[[], Any], held: list[Any], request: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        found = do()
        told = {"module": True} if isinstance(found, AnyModule) else {"value": pack(found, lambda it: _hold(it, held))}
        if request is not None and "after" in request:
            told["after"] = pack(request["after"], lambda it: _hold(it, held))
    except BaseException as error:
        return {"raised": type(error).__name__, "text": str(error)[:500]}
    return told


def _hold(it: Any, held: list[Any]) -> int:
    for index, known in enumerate(held):
        if known is it:
            return index
    held.append(it)
    return len(held) - 1


def pack(value: Any, refer: Callable[[Any], int]) -> Any:
    """A value as JSON; an object that is none becomes a number that stands for it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for name, kind in SEQUENCES.items():
        if isinstance(value, kind):
            return [name, [pack(item, refer) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[pack(key, refer), pack(item, refer)] for key, item in value.items()]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, bytes | bytearray):
        return [type(value).__name__, value.hex()]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    return ["object", refer(value)]


def unpack(value: Any, object_of: Callable[[int], Any]) -> Any:
    """What `pack` made JSON of."""
    if not isinstance(value, list):
        return value
    name, content = value
    if name in SEQUENCES:
        return SEQUENCES[name](unpack(item, object_of) for item in content)
    if name == "dict":
        return {unpack(key, object_of): unpack(item, object_of) for key, item in content}
    if name in ("bytes", "bytearray"):
        return getattr(builtins, name).fromhex(content)
    if name == "complex":
        return complex(*content)
    return range(*content) if name == "range" else object_of(content)


class Link:
    """The tests' way to the program."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies

    def start(self, program: str) -> None:
        """Hand the program over; nothing of it has run when this returns."""
        send(self._requests, program)
        if receive(self._replies) != "here":
            raise RuntimeError("the program's side says something else than that it is there")

    def loaded(self) -> None:
        """Wait until the program's own statements have run.

        Raises:
            Exception: what they raised.
        """
        self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """What the program answers.

        Raises:
            Exception: of the kind that was raised there, where it is a common one.
        """
        send(self._requests, request)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = receive(self._replies)
        if "raised" in answer:
            kind: Any = getattr(builtins, answer["raised"], None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, UnicodeError):
                kind = RuntimeError
            raise kind(answer["text"])
        return answer

    def value(self, **request: Any) -> Any:
        """The same, as a value or a handle."""
        return unpack(self.ask(**request)["value"], lambda index: Handle(self, index))

    def call(self, index: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call what a handle stands for; lists and the like that it changed are changed here too."""
        refer = _index_of
        answer = self.ask(do="call", of=index, args=pack(args, refer), named=pack(named, refer))
        after = unpack(answer["after"], lambda found: Handle(self, found))
        for before, changed in zip(args, after, strict=True):
            if isinstance(before, list | bytearray) and before != changed:
                before[:] = changed
            elif isinstance(before, set | dict) and before != changed:
                before.clear()
                before.update(changed)
        return unpack(answer["value"], lambda found: Handle(self, found))


def _index_of(it: Any) -> int:
    if not isinstance(it, Handle):
        raise TypeError(f"{type(it).__name__} cannot be passed to the program")
    index: int = object.__getattribute__(it, "_index")
    return index


class Handle:
    """Stands for an object of the program's in the tests."""

    def __init__(self, link: Link, index: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_index", index)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._link.call(self._index, args, named)

    def __getattr__(self, name: str) -> Any:
        return self._link.value(do="get", of=self._index, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask(do="set", of=self._index, name=name, value=pack(value, _index_of))

    def __iter__(self) -> Iterator[Any]:
        each = self.__getattr__("__iter__")()
        while True:
            try:
                yield each.__getattr__("__next__")()
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self.__getattr__("__next__")()

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return int(self.__getattr__("__len__")())

    def __getitem__(self, key: Any) -> Any:
        return self.__getattr__("__getitem__")(key)

    def __str__(self) -> str:
        return str(self.__getattr__("__str__")())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._index == other._index

    def __hash__(self) -> int:
        return hash(self._index)


class TestGlobals(dict[str, Any]):
    """The tests' names; those that they do not define themselves are the program's.

    Builtins stay what they are, or a program could pass by another `abs`; where the tests use nothing else, the
    function that is tested is called like one of them.
    """

    def __init__(self, link: Link, tests: str) -> None:
        super().__init__(__name__="tests")
        used = {node.id for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Name)}
        self._foreign = used - set(dir(builtins)) or used
        self._link = link

    def __missing__(self, name: str) -> Any:
        if name not in self._foreign:
            raise KeyError(name)
        answer = self._link.ask(do="name", name=name)  # a KeyError where the program has none of this name
        if "module" in answer:
            if name not in sys.stdlib_module_names:
                raise KeyError(name)
            found: Any = importlib.import_module(name)
        else:
            found = unpack(answer["value"], lambda index: Handle(self._link, index))
        self[name] = found
        return found


def check(link: Link, job: dict[str, Any]) -> None:
    """Run the tests.

    Raises:
        Exception: one of them does not hold.
    """
    link.loaded()
    names = TestGlobals(link, job["tests"])
    with contextlib.suppress(SyntaxError):  # a prompt without a docstring ends where a body has to come
        exec(compile(job["known"], "prompt.py", "exec"), names)
    names.pop(job["entry_point"], None)
    exec(compile(job["tests"], "tests.py", "exec"), names)


def send(file: int, message: Any) -> None:
    """Write a message with its length before it."""
    data = json.dumps(message).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(file, data) :]


def receive(file: int) -> Any:
    """Read a message.

    Raises:
        EOFError: the other side is gone, or sends more than a value can be.
    """
    (size,) = struct.unpack(">I", _exactly(file, 4))
    if size > MESSAGE_BYTES:
        raise EOFError("too much")
    return json.loads(_exactly(file, size))


def _exactly(file: int, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = os.read(file, size - len(pieces))
        if not piece:
            raise EOFError("the other side is gone")
        pieces += piece
    return bytes(pieces)


if __name__ == "__main__":
    main(*sys.argv[1:])
