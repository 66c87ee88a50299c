"""`poolformer bench` leads to its subjects."""

import pytest

from poolformer.bench.command import main


def test_help_names_every_subject(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n  {subject} " in out for subject in ("data", "model", "train", "host"))


@pytest.mark.parametrize("subject", ["data", "model", "train", "host"])
def test_each_subject_has_help_of_its_own(subject, capsys):
    with pytest.raises(SystemExit) as left:
        main([subject, "--help"])
    assert left.value.code == 0
    assert f"poolformer bench {subject}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nothing"]])
def test_another_subject_is_a_mistake(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
