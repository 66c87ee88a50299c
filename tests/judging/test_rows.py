"""The judged row, and which of the reference rows it is."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from poolformer.errors import ConfigError, PoolformerError
from poolformer.judging.protocols import Protocol
from poolformer.judging.rows import Judged, all_rows, find_judged, reference_rows


def test_a_mixer_that_is_a_reference_row_is_that_row_also_where_that_is_an_overlay():
    protocol = Protocol("p", "fits", Path("p.yaml"), rows={"identity": "identity", "matrix": "random_matrix"})
    identity, matrix = reference_rows(protocol)
    assert matrix.overlay.stem == "random-matrix"
    assert all_rows(find_judged("random_matrix"), [identity, matrix]) == [matrix, identity]
    other = find_judged("depthwise", ["kernel_size=5"])
    assert [row.name for row in all_rows(other, [identity, matrix])] == [
        "depthwise kernel_size=5",
        "identity",
        "matrix",
    ]


def test_of_two_reference_rows_that_are_the_judged_one_the_other_stays():
    protocol = Protocol("p", "probes", Path("p.yaml"), rows={"a": "pooling", "b": "pooling"})
    assert [row.name for row in all_rows(find_judged("pooling"), reference_rows(protocol))] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ("depthwise", ["name=pooling"], "--options name=pooling: the mixer is named before its options"),
        ("depthwise", ["kernel_size=5", "kernel_size=7"], "--options kernel_size=7: kernel_size more than once"),
        ("{kernel_size: 5}", [], "a token mixer's mapping needs its name"),
    ],
)
def test_a_mixer_has_one_name_and_each_option_once(given, options, told):
    with pytest.raises(PoolformerError) as caught:
        find_judged(given, options)
    assert told in str(caught.value)


def test_another_mixer_under_a_reference_row_s_name_is_told_apart(tmp_path):
    (tmp_path / "identity.yaml").write_text("model:\n  mixer: {name: pooling, pool_size: 5}\n")
    judged = find_judged(str(tmp_path / "identity.yaml"))
    rows = all_rows(judged, reference_rows(Protocol("p", "probes", Path("p.yaml"), rows={"identity": "identity"})))
    assert [row.name for row in rows] == ["identity (judged)", "identity"]
    assert len({row.slug for row in rows}) == 2


def test_rows_that_would_share_a_folder_are_told():
    protocol = Protocol("p", "probes", Path("p.yaml"), rows={"a b": "identity", "a:B": "pooling"})
    with pytest.raises(ConfigError, match="rows 'a b' and 'a:B' would share the folder 'a-B': rename one"):
        all_rows(find_judged("depthwise"), reference_rows(protocol))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the standard library reads no TOML")
def test_a_protocol_in_a_package_that_is_not_installed_says_so(tmp_path, monkeypatch):
    package = tmp_path / "my mixers"
    package.mkdir()
    asked = Protocol("p", "probes", package / "p.yaml", rows={"wide": {"name": "brought", "width": 3}})
    (package / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\n[project.entry-points."poolformer.mixers"]\nbrought = "mine:Mixer"\n'
    )
    with pytest.raises(ConfigError, match=r"row 'wide': no .* 'brought'.* brings it: pip install '.*/my mixers'$"):
        reference_rows(asked)
    ends_as_ever = r"no token mixer is called '\w+'.* where each comes from\.$"
    for other in ("poling", "version"):  # a misspelt one, and a key of another table
        with pytest.raises(ConfigError, match=ends_as_ever):
            reference_rows(replace(asked, rows={other: other}))
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")  # then nothing that is installed helps
    with pytest.raises(ConfigError, match=ends_as_ever):
        reference_rows(asked)


@pytest.mark.parametrize("project", ["", "project = 3", "[project", '[project.entry-points]\n"poolformer.mixers" = 3'])
def test_a_protocol_beside_any_other_project_says_that_there_is_no_such_mixer(tmp_path, project):
    (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(ConfigError, match=r"row 'a': no token mixer .* where each comes from\.$"):
        reference_rows(Protocol("p", "probes", tmp_path / "p.yaml", rows={"a": "poling"}))


def test_the_folder_of_a_long_name_is_short_and_its_own():
    one, other = Judged("x" * 300 + "1"), Judged("x" * 300 + "2")
    assert len(one.slug) < 120
    assert one.slug != other.slug
