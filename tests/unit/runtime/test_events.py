"""The lines between the scheduler process and the harness: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftbench.harness.errors import EngineError
from draftbench.harness.records import GraphUse, PhaseTimes
from draftbench.harness.runtime.events import RoundLog, RoundReader

COUNTS = st.integers(0, 2**60)
FLAGS = st.sampled_from([True, False, None])
EVENTS = st.one_of(
    st.tuples(st.just("accepted"), st.sampled_from(["a-0", "b-1"]), st.integers(0, 64)),
    st.tuples(st.just("accepted"), st.just("changing"), st.integers(0, 64), st.integers(0, 64)),
    st.tuples(st.just("phases"), COUNTS, COUNTS, COUNTS, COUNTS),
    st.tuples(st.just("graphs"), FLAGS, FLAGS, FLAGS),
    st.tuples(st.just("failed"), st.text(st.characters(exclude_categories=["Cs"]))),
    st.tuples(st.just("empty")),
)


@given(batches=st.lists(st.lists(EVENTS, max_size=12), max_size=4))
def test_what_is_written_is_read_once(tmp_path_factory, batches):
    """Whatever the order and however often one looks: steps by request, summed phases and passes, the first failure."""
    path = tmp_path_factory.mktemp("rounds") / "rounds.log"
    log, reader, first_failure = RoundLog(path), RoundReader(path), None
    for batch in batches:
        for name, *fields in batch:
            getattr(log, name)(*fields)
        found = reader.take()
        kinds = {name: [fields for kind, *fields in batch if kind == name] for name in ("accepted", "phases", "graphs")}
        steps: dict[str, list[int]] = {}
        for request_id, count, *_ in kinds["accepted"]:
            steps.setdefault(request_id, []).append(count)
        assert found.num_accepted_drafts == steps
        sizes = [fields[2] for fields in kinds["accepted"] if len(fields) == 3]
        assert found.num_proposed_drafts == ({"changing": sizes} if sizes else {})
        num_empty = sum(event[0] == "empty" for event in batch)
        if kinds["phases"] or num_empty:
            sums = [sum(column) for column in zip(*kinds["phases"], strict=True)] or [0] * 4
            names = ("draft_ns", "verify_ns", "extend_ns", "round_ns")
            times = dict(zip(names, sums, strict=True))
            assert found.phases == PhaseTimes(num_rounds=len(kinds["phases"]), num_empty=num_empty, **times)
        else:
            assert found.phases is None
        if kinds["graphs"]:
            ran = [None if None in column else sum(column) for column in zip(*kinds["graphs"], strict=True)]
            target, draft, extend = ran
            use = GraphUse(num_passes=len(kinds["graphs"]), target=target, draft=draft, extend=extend)
            assert found.graphs == use
        else:
            assert found.graphs is None
        failures = [" ".join(event[1].split()) for event in batch if event[0] == "failed"]
        first_failure = first_failure if first_failure is not None else next(iter(failures), None)
        assert reader.draft_failure == first_failure
    assert reader.take().num_accepted_drafts == {}


def test_a_line_that_is_being_written_waits(tmp_path):
    """Its beginning is no event yet."""
    path = tmp_path / "rounds.log"
    reader = RoundReader(path)
    assert reader.take().num_accepted_drafts == {}, "no engine has written yet"
    path.write_text("r one 2\nr one")
    assert reader.take().num_accepted_drafts == {"one": [2]}
    path.write_text("r one 2\nr one 3\n")
    assert reader.take().num_accepted_drafts == {"one": [3]}


@pytest.mark.parametrize(
    "line", ["x 1 2 3 4", "p 1 2 3", "p 1 2 3 x", "r one", "r one two 3", "e 1", "g 1 0", "g 1 0 2", ""]
)
def test_a_line_of_no_known_kind_is_no_phase(tmp_path, line):
    """It is an error that shows the line."""
    (tmp_path / "rounds.log").write_text(f"r one 2\n{line}\n")
    with pytest.raises(EngineError, match="no event of a round"):
        RoundReader(tmp_path / "rounds.log").take()
