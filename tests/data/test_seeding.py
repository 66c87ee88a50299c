"""A data module follows one seed, which a run keeps."""

import pytest

from poolformer.data.seeding import SeededDataModule


def test_the_seed_is_that_of_the_run_unless_it_is_given(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert SeededDataModule(None).seed == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert SeededDataModule(None).seed == 7
    assert SeededDataModule(3).seed == 3


@pytest.mark.parametrize(("given", "kept"), [(None, 5), (3, 3)])
def test_a_resumed_run_keeps_its_seed_but_not_over_one_that_is_asked_for(monkeypatch, given, kept):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    data = SeededDataModule(given)
    data.load_state_dict({"seed": 5})
    assert data.state_dict() == {"seed": kept}
