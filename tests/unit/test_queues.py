"""The byte-bounded queue."""

from __future__ import annotations

import threading

import pytest

from forebay.queues import ByteQueue, Closed


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_order_and_bytes_are_counted():
    queue: ByteQueue[int] = ByteQueue(100)
    for n in range(3):
        assert queue.put(n, 30)
    assert (len(queue), queue.nbytes) == (3, 90)
    assert [queue.get(0) for _ in range(3)] == [0, 1, 2]
    assert (len(queue), queue.nbytes) == (0, 0)


def test_put_waits_for_room_and_goes_on_when_there_is_some():
    queue: ByteQueue[str] = ByteQueue(100)
    queue.put("first", 80)
    done = threading.Event()
    thread = in_thread(lambda: (queue.put("second", 30), done.set()))
    assert not done.wait(0.05)
    assert queue.get(0) == "first"
    assert done.wait(5)
    thread.join(5)
    assert queue.get(0) == "second"


def test_an_item_larger_than_the_bound_goes_in_alone():
    queue: ByteQueue[str] = ByteQueue(10)
    assert queue.put("huge", 1_000)
    done = threading.Event()
    in_thread(lambda: (queue.put("next", 1), done.set()))
    assert not done.wait(0.05)
    assert queue.get(0) == "huge"
    assert done.wait(5)


def test_closing_frees_a_waiting_put_and_keeps_what_is_inside():
    queue: ByteQueue[str] = ByteQueue(10)
    queue.put("inside", 10)
    answers: list[bool] = []
    thread = in_thread(lambda: answers.append(queue.put("late", 10)))
    queue.close()
    thread.join(5)
    assert answers == [False]
    assert queue.put("later", 1) is False
    assert queue.get(None) == "inside"
    with pytest.raises(Closed):
        queue.get(None)


def test_a_poke_makes_get_return_nothing_once():
    queue: ByteQueue[int] = ByteQueue(10)
    queue.poke()
    assert queue.get(None) is None
    assert queue.get(0) is None


def test_a_poke_hides_no_item():
    queue: ByteQueue[int] = ByteQueue(10)
    queue.poke()
    queue.put(7, 1)
    assert queue.get(None) == 7


def test_many_producers_lose_and_double_nothing():
    queue: ByteQueue[tuple[int, int]] = ByteQueue(50)
    threads = [in_thread(lambda w=w: [queue.put((w, n), 10) for n in range(200)]) for w in range(4)]
    out = [queue.get(5) for _ in range(800)]
    for thread in threads:
        thread.join(5)
    assert sorted(out) == [(w, n) for w in range(4) for n in range(200)]
    for w in range(4):
        assert [n for who, n in out if who == w] == list(range(200))
    assert queue.nbytes == 0
