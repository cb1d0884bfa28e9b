"""Work on several items at a time."""

from __future__ import annotations

import threading
import time

import polars as pl
import pytest

from polars_materialize.tables.parallel import Behind, in_order


def test_results_come_in_the_order_of_items():
    def work(item):
        if item == 0:
            later.wait(5)  # the first is ready last
        if item == 1:
            later.set()
        return item * 2

    later = threading.Event()
    if pl.thread_pool_size() == 1:
        later.set()

    assert list(in_order(work, range(20))) == [item * 2 for item in range(20)]


def test_the_first_error_in_their_order_ends_it():
    def work(item):
        if item >= 3:
            raise ValueError(item)
        return item

    found = []
    with pytest.raises(ValueError, match=r"^3$"):
        found.extend(in_order(work, range(100)))


def test_no_more_items_are_held_than_are_worked_on():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items())
    next(results)

    assert len(taken) <= pl.thread_pool_size() + 1
    results.close()


def test_nothing_of_nothing():
    assert list(in_order(len, [])) == []


def test_what_is_done_behind_keeps_its_order_and_is_done_at_the_end():
    done = []

    def slowly(item):
        time.sleep(0.001)
        done.append(item)

    with Behind() as behind:
        for item in range(50):
            behind.do(slowly, item)
            assert len(done) >= item - 1  # no more than one waits
    assert done == list(range(50))


@pytest.mark.parametrize("later", [True, False])
def test_what_fails_behind_is_raised_once_and_nothing_follows_it(later):
    done = []

    def fail():
        raise KeyError("behind")

    with pytest.raises(KeyError, match="behind"), Behind() as behind:  # noqa: PT012 - where it is raised depends
        behind.do(fail)
        if later:
            behind.do(done.append, 1)
    assert done == []


def test_an_error_of_the_block_itself_comes_first():
    def fail():
        raise KeyError("behind")

    with pytest.raises(ValueError, match="block"), Behind() as behind:  # noqa: PT012 - both have to fail
        behind.do(fail)
        raise ValueError("block")
