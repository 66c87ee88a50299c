"""Files that memory cannot keep are asked for early."""

import os

import numpy as np
from data_betons import write_beton

from poolformer.data.beton import Beton
from poolformer.data.read_ahead import memory, will_read
from poolformer.data.sources import BetonSource


def test_the_memory_is_that_of_the_machine_at_most():
    assert 0 < memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_only_files_that_memory_cannot_keep_are_asked_for(tmp_path, monkeypatch):
    beton, asked = Beton(write_beton(tmp_path / "x.beton", range(8))), []
    monkeypatch.setattr("poolformer.data.sources.will_read", lambda *parts: asked.append(parts))
    BetonSource(beton).will_load(np.array([3, 1]))
    assert asked == []
    monkeypatch.setattr("poolformer.data.sources.memory", lambda: beton.bytes)
    BetonSource(beton).will_load(np.array([3, 1]))
    [(descriptors, places, sizes)] = asked
    assert (descriptors.tolist(), sizes.tolist()) == ([beton.descriptor] * 2, [48, 48])
    assert places.tolist() == beton.entries(np.array([3, 1])).place.tolist()
    will_read(descriptors, places, sizes)  # whatever the file system says to it
    will_read(np.full(2, -1), places, sizes)


def test_a_file_that_takes_no_advice_does_not_end_it_for_the_others(tmp_path, monkeypatch):
    beton, given = Beton(write_beton(tmp_path / "x.beton", range(8))), []
    advise = os.posix_fadvise

    def noted(*advice):
        advise(*advice)
        given.append(advice[0])

    monkeypatch.setattr(os, "posix_fadvise", noted)
    will_read(np.array([beton.descriptor, -1, beton.descriptor]), np.zeros(3, np.int64), np.full(3, 48))
    assert given == [beton.descriptor] * 2
