"""Threads hand work back in order; how many there are is a matter of the cores that are a process's own."""

import threading

import pytest

from poolformer.data import threads
from poolformer.data.threads import available_cores, in_order, loader_threads, own_cores, share_of_cores


def test_results_come_in_order_and_errors_in_their_place():
    assert list(in_order(lambda n: n * n, range(20), workers=3, ahead=5)) == [n * n for n in range(20)]
    results = in_order(lambda n: 1 // (n - 3), range(9), workers=2, ahead=2)
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_alone_all_cores_are_its_own():
    assert share_of_cores(1) == available_cores()
    assert share_of_cores(10_000) == 1


@pytest.mark.parametrize(
    ("cores", "own"),
    [
        ([{0, 1, 2, 3}, {4, 5, 6, 7}], 4),  # each is bound to its own, as srun --cpus-per-task does
        ([{*range(8)}, {*range(8)}], 4),  # all may use all, as under torchrun
        ([{*range(8)}, {*range(8)}, {*range(8)}], 3),
        ([{0}, {0}, {0}], 1),
    ],
)
def test_among_several_processes_shared_cores_are_divided(cores, own):
    of_all = [*(("here", each) for each in cores), ("elsewhere", {*range(64)})]
    assert own_cores(of_all[0], of_all) == own


def test_no_more_are_under_way_than_asked_for():
    begun: list[int] = []
    results = in_order(lambda number: begun.append(number) or number, iter(range(100)), workers=2, ahead=3)
    assert next(results) == 0
    assert len(begun) <= 3
    results.close()


def test_a_closed_iterator_drops_what_has_not_begun():
    go, begun = threading.Event(), []

    def wait(number: int) -> int:
        begun.append(number)
        if number:
            go.wait(10)
        return number

    results = in_order(wait, range(50), workers=1, ahead=20)
    assert next(results) == 0
    results.close()
    go.set()
    assert len(begun) <= 2


def test_no_more_threads_load_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    assert loader_threads(None, own_cores=3) == 3
    assert loader_threads(0, own_cores=3) == loader_threads(1, own_cores=3) == 1
    with pytest.warns(UserWarning, match=r"^num_workers=4 is more than 1 core: using as many threads$"):
        assert loader_threads(4, own_cores=3) == 1
