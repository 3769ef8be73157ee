"""Which model leaves to make room for another one."""

from __future__ import annotations

import pytest

from miclip.errors import Overloaded, TooLarge
from services.activation.budget import Budget, Load

OLD, MID, NEW = Load("old", 100, False), Load("mid", 100, False), Load("new", 100, False)


def busy(load: Load) -> Load:
    return Load(load.model, load.bytes, True)


def test_without_limits_nothing_leaves() -> None:
    assert Budget().victim([OLD, MID, NEW], "next", 10**12) is None


@pytest.mark.parametrize("budget", [Budget(models=3), Budget(bytes=399)])
def test_the_least_recently_used_leaves(budget: Budget) -> None:
    assert budget.victim([OLD, MID], "next", 100) is None
    assert budget.victim([OLD, MID, NEW], "next", 100) == "old"
    assert budget.victim([busy(OLD), MID, NEW], "next", 100) == "mid"


def test_a_budget_may_be_filled_to_the_last_byte() -> None:
    assert Budget(bytes=300).victim([OLD, MID], "next", 100) is None
    assert Budget(bytes=300).victim([OLD, MID], "next", 101) == "old"
    assert Budget(bytes=300).victim([], "next", 300) is None


def test_a_model_beyond_the_whole_budget_is_too_large_and_drives_nothing_out() -> None:
    with pytest.raises(TooLarge, match=r"'next' takes 20\.00 GB.*10\.00 GB.*MICLIP_MODEL_BYTES") as caught:
        Budget(bytes=10**10).victim([OLD], "next", 2 * 10**10)
    assert (caught.value.status, caught.value.field) == ("RESOURCE_EXHAUSTED", "model")


@pytest.mark.parametrize("budget", [Budget(models=2), Budget(bytes=250)])
def test_where_requests_use_all_of_them_the_client_is_to_try_again(budget: Budget) -> None:
    with pytest.raises(Overloaded, match="all 2 loaded models") as caught:
        budget.victim([busy(OLD), busy(MID)], "next", 100)
    assert caught.value.retry_after > 0
    assert not isinstance(caught.value, TooLarge)
