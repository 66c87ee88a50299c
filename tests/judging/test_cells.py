"""What a protocol's file says of probes is checked before anything is trained."""

from pathlib import Path

import pytest

from poolformer.errors import ConfigError
from poolformer.judging.cells import settings_of, tasks_of
from poolformer.judging.protocols import Protocol


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"step": 3}, "there is no setting 'step'. Did you mean 'steps'?"),
        ({"steps": 2.5}, "setting 'steps' is 2.5, not an integer"),
        ({"steps": 0}, "setting 'steps' is 0, and has to be at least 1"),
        ({"evaluations": 0}, "setting 'evaluations' is 0, and has to be at least 1"),
        ({"lr": 0}, "setting 'lr' is 0, and has to be above 0"),
        ({"lr": float("inf")}, "setting 'lr' is inf, and has to be finite"),
        ({"weight_decay": -1}, "setting 'weight_decay' is -1, and has to be 0 or more"),
        ({"beta2": 1}, "setting 'beta2' is 1, and has to be at least 0 and below 1"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_told(setting, told):
    with pytest.raises(ConfigError) as caught:
        settings_of(Protocol("p", "probes", Path("p.yaml"), settings=setting))
    assert told in str(caught.value)


def test_a_number_that_yaml_takes_for_a_text_is_a_number():
    assert settings_of(Protocol("p", "probes", Path("p.yaml"), settings={"lr": "1e-3"})).lr == 1e-3


def test_a_task_has_its_own_sides_and_none_too_small_for_it():
    assert tasks_of(Protocol("p", "probes", Path("p.yaml"), tasks={"path": (3, 16)})) == {"path": (3, 16)}
    with pytest.raises(ConfigError, match="a map of task 'path' has at least 3 symbols a side"):
        tasks_of(Protocol("p", "probes", Path("p.yaml"), tasks={"path": (8, 1)}))
