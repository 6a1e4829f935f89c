"""The state machine: what is possible, what is final, and what no path can skip."""

import pytest

from everline.errors import ConflictError
from everline.releases.states import LIVE, MOVES, PENDING, Move, State, after, moves_of_people


def reachable(start):
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for table in MOVES.values():
            if state in table and table[state] not in seen:
                seen.add(table[state])
                todo.append(table[state])
    return seen


def paths_to(target, path=(State.DRAFT,), *, without=frozenset()):
    if path[-1] is target:
        yield path
        return
    for move, table in MOVES.items():
        if move is Move.BREAK_GLASS:  # the one way past approval: loud, and reviewed
            continue
        following = table.get(path[-1])
        if following and following not in path and following not in without:
            yield from paths_to(target, (*path, following), without=without)


def test_every_state_can_be_reached_from_draft():
    assert reachable(State.DRAFT) == set(State)


@pytest.mark.parametrize("final", [State.REJECTED, State.ROLLED_BACK])
def test_final_states_allow_nothing_and_say_so(final):
    for move in Move:
        with pytest.raises(ConflictError, match=final.value.replace("_", " ")) as caught:
            after(final, move)
        assert "final" in caught.value.hint


@pytest.mark.parametrize("live", sorted(LIVE))
def test_nothing_goes_live_without_having_been_checked_and_approved(live):
    found = list(paths_to(live))
    assert found
    assert all({State.CHECKING, State.APPROVED} <= set(path) for path in found)
    assert not list(paths_to(live, without={State.APPROVED}))
    assert not list(paths_to(live, without={State.CHECKING}))


def test_breaking_the_glass_leads_live_from_whatever_was_checked_and_from_nowhere_else():
    broken = MOVES[Move.BREAK_GLASS]
    assert set(broken) == {State.BLOCKED, State.AWAITING_APPROVAL, State.APPROVED, State.SHADOW, State.CANARY}
    assert set(broken.values()) == {State.PROMOTED}


def test_a_blocked_release_gets_on_only_through_another_check_or_broken_glass():
    moves = {move for move, table in MOVES.items() if State.BLOCKED in table}
    assert moves == {Move.CHECK, Move.REJECT, Move.BREAK_GLASS}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
def test_each_pair_leads_somewhere_or_is_refused_with_advice(state, move):
    if state in MOVES[move]:
        assert after(state, move) in State
    else:
        with pytest.raises(ConflictError) as caught:
            after(state, move)
        assert caught.value.hint
        assert caught.value.field == "state"


def test_people_are_offered_only_what_is_possible():
    for state in State:
        for move in moves_of_people(state):
            assert after(state, move)
    assert State.PROMOTED not in PENDING
