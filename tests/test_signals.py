"""Signals are handled in another way for the length of a block, in the main thread, unless they are ignored."""

import os
import signal
import threading

import pytest

from poolformer.signals import handling


@pytest.fixture(autouse=True)
def handlers_as_they_were():
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_is_handled_inside_and_as_before_afterwards():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    heard = []
    with handling({signal.SIGUSR1: lambda signum, frame: heard.append(signum)}):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    heard = []
    with handling({signal.SIGUSR1: lambda signum, frame: heard.append(signum)}):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == []


def test_an_error_inside_leaves_no_handler_behind():
    with pytest.raises(ValueError, match="inside"), handling({signal.SIGUSR1: lambda signum, frame: None}):
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_another_thread_changes_no_handler():
    found = []

    def inside() -> None:
        with handling({signal.SIGUSR1: lambda signum, frame: None}):
            found.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
