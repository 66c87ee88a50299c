"""A mistake is one line that can be printed anywhere."""

import errno

import pytest

from poolformer.errors import (
    LONGEST_MESSAGE,
    ConfigError,
    PoolformerError,
    causes,
    describe,
    is_end,
    of_ddp,
    of_memory,
    of_the_system,
    one_line,
    printable,
    printable_lines,
    suggestion,
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.jpg"), "'a.jpg': No such file or directory"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"a.jpg"), "'a.jpg': No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.ENOTCONN, "not connected"), None),  # of a library's own making
        (OSError("no number"), None),
    ],
)
def test_what_the_system_refuses_is_said_with_its_file(error, said):
    found = of_the_system(error)
    assert (str(found) if found else None) == said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_is_not_there_is_a_mistake_of_size(error):
    assert str(of_memory(error)).startswith("out of memory: take smaller batches or images")
    assert of_memory(RuntimeError("shapes differ")) is None


def test_gradients_that_ddp_waits_for_are_a_mistake_of_the_strategy():
    said = "It looks like your LightningModule has parameters unused: strategy='ddp_find_unused_parameters_true'"
    assert "ddp_find_unused_parameters_true" in str(of_ddp(RuntimeError(said)))
    assert of_ddp(RuntimeError("shapes differ")) is None


def test_a_long_message_loses_its_middle():
    line = one_line(ConfigError("a" * 2000 + "b" * 2000))
    assert len(line) <= LONGEST_MESSAGE + 5
    assert (line[0], line[-1]) == ("a", "b")
    assert " ... " in line


def test_what_no_terminal_should_get_is_escaped():
    assert printable("a\x1b[31m") == "a\\x1b[31m"
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"


@pytest.mark.parametrize(("error", "said"), [(ValueError("a\nb"), "ValueError: a"), (KeyError(), "KeyError")])
def test_an_exception_is_its_type_and_first_line(error, said):
    assert describe(error) == said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("poling", " Did you mean 'pooling'?"),
        ("s12", " Did you mean 'poolformer_s12'?"),
        ("poolformer_s13", " Did you mean 'poolformer_s12' or 'poolformer_s36'?"),  # as near, and begins more alike
        ("xyz", ""),
    ],
)
def test_the_nearest_word_is_suggested(word, said):
    assert suggestion(word, ["pooling", "identity", "poolformer_s36", "poolformer_s12"]) == said


def test_each_mistake_is_one_of_ours():
    assert issubclass(ConfigError, PoolformerError)
    assert issubclass(PoolformerError, ValueError)


def test_the_causes_of_an_error_are_each_met_once():
    first, second, third = ValueError("first"), OSError("second"), KeyError("third")
    first.__cause__, second.__context__ = second, third
    assert list(causes(first)) == [first, second]
    assert list(causes(first, contexts=True)) == [first, second, third]
    third.__cause__ = first
    assert list(causes(first, contexts=True)) == [first, second, third]
    assert list(causes(None)) == []


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (KeyboardInterrupt(), True),
        (SystemExit(143), True),
        (SystemExit(255), False),
        (SystemExit(0), False),
        (SystemExit("no licence"), False),
    ],
)
def test_a_signal_ends_a_process_and_the_exit_of_a_stranger_s_code_does_not(error, ends):
    assert is_end(error) is ends
