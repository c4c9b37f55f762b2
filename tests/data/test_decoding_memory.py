"""Threads that decode keep within one budget, and never wait for themselves."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tailora.data import images as decoding_memory
from tailora.data.images import one_image, reserve


def most_at_once(sizes, monkeypatch, *, budget):
    """Most bytes that were reserved together, where four threads take one size after another."""
    monkeypatch.setattr(decoding_memory, "BUDGET", budget)
    now, most, lock = 0, 0, threading.Lock()

    def take(size):
        nonlocal now, most
        with one_image():
            reserve(size)
            with lock:
                now += size
                most = max(most, now)
            threading.Event().wait(0.002)
            with lock:
                now -= size

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, sizes))
    return most


def test_threads_share_the_budget(monkeypatch):
    assert most_at_once([40, 30, 30, 60] * 10, monkeypatch, budget=100) in range(60, 101)
    assert most_at_once([50] * 20, monkeypatch, budget=100) == 100


def test_what_is_larger_than_the_budget_goes_alone(monkeypatch):
    assert most_at_once([300, 20, 300, 10] * 5, monkeypatch, budget=100) == 300


def test_nobody_waits_for_itself_or_outside(monkeypatch):
    monkeypatch.setattr(decoding_memory, "BUDGET", 10)
    reserve(1000)
    with one_image():
        reserve(8)
        reserve(8)
    with one_image():
        reserve(8)
