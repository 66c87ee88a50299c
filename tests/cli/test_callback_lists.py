"""Callbacks of several configuration files: what adds counts beside what was there, and what replaces says so."""

from pathlib import Path

import pytest
import yaml

from poolformer.cli import dispatch as cli
from poolformer.cli.callback_lists import settled

EMA, EARLY = "EMAWeightAveraging", "EarlyStopping"


@pytest.fixture
def listed(monkeypatch, tmp_path, capsys):
    """Return the callbacks, by name, that configuration files and flags come to; called in an empty directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "word.yaml").write_text("trainer: {callbacks+: DeviceStatsMonitor}\n")
    (tmp_path / "short.yaml").write_text("trainer: {callbacks+: {class_path: EMAWeightAveraging}}\n")
    (tmp_path / "only.yaml").write_text("trainer: {callbacks: [DeviceStatsMonitor]}\n")
    (tmp_path / "none.yaml").write_text("trainer: {callbacks: []}\n")
    (tmp_path / "typo.yaml").write_text("trainer: {callbacks+: [mine.Evry]}\n")

    def listed(*words: str) -> list[str]:
        files = [word for name in words if not name.startswith("--") for word in ("--config", name)]
        with pytest.raises(SystemExit) as left:
            cli.main(["fit", *files, *[word for word in words if word.startswith("--")], "--print_config"])
        assert left.value.code == 0
        text = capsys.readouterr().out.partition("  callbacks:")[2].partition("  fast_dev_run:")[0]
        found = yaml.safe_load(text) or []
        found = [found] if isinstance(found, dict) else found
        return [each["class_path"].rpartition(".")[2] for each in found]

    return listed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digits", "extras/ema", "extras/early-stopping"], [EMA, EARLY]),
        (["digits", "extras/early-stopping", "extras/ema", "word.yaml"], [EARLY, EMA, "DeviceStatsMonitor"]),
        (["digits", "only.yaml", "extras/ema"], ["DeviceStatsMonitor", EMA]),
        (["digits", "extras/ema", "none.yaml"], []),
        (["digits", "extras/ema", "--trainer.callbacks=null"], []),
        (["digits", "extras/ema", "--trainer.callbacks+=DeviceStatsMonitor"], [EMA, "DeviceStatsMonitor"]),
    ],
    ids=" ".join,
)
def test_callbacks_that_files_add_count_together(listed, words, expected):
    assert listed(*words) == expected


def test_a_callback_that_is_there_already_is_not_added_again(listed):
    assert listed("digits", "extras/ema", "extras/ema") == [EMA]


@pytest.mark.filterwarnings("ignore:.*EMAWeightAveraging is left out")
def test_a_callback_with_less_said_of_it_is_not_added(listed):
    assert listed("digits", "extras/ema", "short.yaml") == [EMA]


def test_what_is_left_out_beside_one_with_other_options_is_said():
    keeps = {"class_path": "ModelCheckpoint", "init_args": {"every_n_epochs": 5}}
    files = [(Path("a.yaml"), {"trainer": {"callbacks": [keeps]}})]
    files.append((Path("b.yaml"), {"trainer": {"callbacks+": ["ModelCheckpoint"]}}))
    with pytest.warns(
        UserWarning, match=r"callbacks\+ of 'b.yaml': ModelCheckpoint is left out, .*'every_n_epochs': 5"
    ):
        assert settled(files, [])[1] == {"trainer": {"callbacks+": []}}


@pytest.mark.filterwarnings("error")
def test_a_list_on_the_command_line_that_has_them_all_replaces_none():
    files = [(Path("a.yaml"), {"trainer": {"callbacks": ["EarlyStopping"]}})]
    settled(files, ["--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: val/loss}}]"])
    settled(files, ["--trainer.callbacks", "[EarlyStopping, RichProgressBar]"])


def test_a_class_of_the_users_is_not_lightnings_of_the_same_name():
    files = [(Path("a.yaml"), {"trainer": {"callbacks": ["mine.EarlyStopping"]}})]
    files.append((Path("b.yaml"), {"trainer": {"callbacks+": ["EarlyStopping"]}}))
    assert settled(files, [])[1] == files[1][1]


@pytest.mark.parametrize("word", ["only.yaml", "--trainer.callbacks=DeviceStatsMonitor"])
def test_a_list_replaces_those_before_it_and_says_so(listed, word):
    with pytest.warns(UserWarning, match=r"replaces EMAWeightAveraging of a file before it; callbacks\+ adds"):
        assert listed("digits", "extras/ema", word) == ["DeviceStatsMonitor"]


def test_a_mistake_in_what_is_added_is_said_with_its_file(listed, capsys):
    assert cli.main(["fit", "--config", "digits", "--config", "typo.yaml"]) == 2
    assert "--trainer.callbacks got 'mine.Evry' in 'typo.yaml': there is no module 'mine'" in capsys.readouterr().err
