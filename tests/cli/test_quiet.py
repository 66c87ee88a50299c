"""Warnings are a line, and what is no news is not said."""

import logging
import warnings

import pytest

from poolformer.cli import quiet


def test_a_warning_is_a_line_as_long_as_it_lasts():
    before = warnings.formatwarning
    with quiet.short_warnings():
        assert warnings.formatwarning("it differs", UserWarning, "some.py", 1) == "warning: it differs\n"
    assert warnings.formatwarning is before


@pytest.mark.parametrize(("text", "said"), [("Tip: buy", False), ("Seed set to 42", True)])
def test_lightning_does_not_advertise(text, said):
    record = logging.LogRecord("lightning", logging.INFO, "", 1, text, (), None)
    assert quiet._no_advertising.filter(record) is said
