"""What a resumed run keeps of its checkpoint."""

import pytest

from poolformer.checkpoint.record import RUN
from poolformer.run.resumed import before, seed_of, set_weight_decay


def test_a_run_keeps_its_seed_and_says_so():
    checkpoint = {RUN: {"seed_everything": 3}}
    assert seed_of(checkpoint, asked=3) == 3
    with pytest.warns(UserWarning, match="the run keeps its seed, 3; --seed_everything 7 is for new runs"):
        assert seed_of(checkpoint, asked=7) == 3
    assert seed_of({}, asked=7) == 7


def test_facts_and_options_of_before_stand_side_by_side():
    checkpoint = {RUN: {"max_epochs": 3}, "hyper_parameters": {"lr": 1}, "datamodule_hyper_parameters": {"shift": 0}}
    assert before(checkpoint) == {"max_epochs": 3, "lr": 1, "shift": 0}


def test_weights_that_decay_decay_as_asked_and_the_others_do_not():
    unnamed = [{"weight_decay": 0.05}, {"weight_decay": 0.0}]
    named = [{"weight_decay": 0.0, "name": "decay"}, {"weight_decay": 0.0, "name": "no_decay"}]
    for groups in (unnamed, named):
        set_weight_decay({"optimizer_states": [{"param_groups": groups}]}, 0.5)
        assert [group["weight_decay"] for group in groups] == [0.5, 0]
