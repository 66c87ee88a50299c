"""Names of mixers and backbones: found in package metadata, imported on use, broken alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import poolformer
from poolformer.errors import AmbiguousNameError, BrokenPluginError, UnknownNameError
from poolformer.registry import BACKBONES, DATA, DISTRIBUTION, MIXERS, entries, find, listing

MIXER = """
from torch import nn


class Factory(nn.Identity):
    def __init__(self, dim: int):
        super().__init__()
"""


@pytest.fixture
def mixer_package(fake_plugin):
    """Install a package with one mixer, which works unless said otherwise."""

    def install(name: str = "my-dist", mixer: str = "my", *, version: str = "1.0", value="", source: str = MIXER):
        module = name.replace("-", "_")
        return fake_plugin(
            name=name,
            version=version,
            entry_points={MIXERS: {mixer: value or f"{module}:Factory"}},
            modules={module: source},
        )

    return install


def run_python(code: str, *, path: Path | str = "", flags: tuple[str, ...] = (), **options) -> str:
    """Run code in a fresh process and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, **options).stdout


# ---- listing


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (MIXERS, {"pooling", "identity", "depthwise", "attention"}),
        (BACKBONES, {f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48", "tiny")}),
        (DATA, {"DigitsData", "FFCVData", "FolderData"}),
    ],
)
def test_our_own_names_are_entry_points_like_any_others(group, names):
    listed = listing(group)
    assert names <= listed.keys()
    for name in names:
        assert listed[name].builtin
        assert callable(listed[name].load())


def test_an_environment_from_before_our_package_had_its_name_has_the_built_ins_once(fake_plugin):
    value = "poolformer.network.mixers:Pooling"
    fake_plugin(name="poolformer", version="0.1.0", entry_points={MIXERS: {"pooling": value}}, modules={})
    assert [entry.builtin for entry in entries(MIXERS) if entry.name == "pooling"] == [True]
    assert find(MIXERS, "poolformer/pooling") == find(MIXERS, "pooling")


def test_the_distribution_is_the_one_that_pyproject_names():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nname = "{DISTRIBUTION}"\n' in project


def test_a_plugin_is_listed_with_its_package_and_version(mixer_package):
    mixer_package("My_Mixers", "my", version="2.1", value="my_mixers.sub:Factory")
    entry = listing(MIXERS)["my"]
    assert not entry.builtin
    assert (entry.origin, entry.qualified_name, entry.value) == (
        "my-mixers 2.1",
        "my-mixers/my",
        "my_mixers.sub:Factory",
    )
    assert "my" not in listing(BACKBONES)


def test_the_listing_is_sorted_by_name(mixer_package):
    mixer_package("my-dist", "middle")
    names = list(listing(MIXERS))
    assert names == sorted(names)


def test_reading_names_imports_neither_torch_nor_the_plugin(mixer_package):
    folder = mixer_package("my-dist", "my", source="raise SystemExit('imported')")
    code = (
        "import sys; from poolformer.registry import MIXERS, find, listing; "
        "print('my' in listing(MIXERS), find(MIXERS, 'my').origin); "
        "print(sorted({'torch', 'lightning', 'jsonargparse', 'my_dist', 'poolformer.mixers'} & sys.modules.keys()))"
    )
    assert run_python(code, path=folder).splitlines() == ["True my-dist 1.0", "[]"]


# ---- finding


def test_a_plugin_is_found_by_its_name_and_imported_by_load(mixer_package):
    mixer_package("my-dist", "my")
    entry = find(MIXERS, "my")
    assert "my_dist" not in sys.modules
    assert entry.load().__module__ == "my_dist"


@pytest.mark.parametrize("name", ["my-dist/my", "my_dist/my", "My.Dist/my"])
def test_a_qualified_name_takes_any_spelling_of_the_package(mixer_package, name):
    mixer_package("my-dist", "my")
    assert find(MIXERS, name).qualified_name == "my-dist/my"


def test_our_own_names_can_be_qualified_too():
    assert find(MIXERS, "poolformer/pooling") == find(MIXERS, "pooling")


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        (MIXERS, "poling", r"no token mixer is called 'poling'\. Did you mean 'pooling'\? Installed: attention, "),
        (MIXERS, "nothing/pooling", r"no token mixer is called 'nothing/pooling'\. Did you mean 'pooling'\?"),
        (MIXERS, "xyzzy", r"no token mixer is called 'xyzzy'\. Installed: .* 'poolformer mixers' shows where"),
        (MIXERS, "", r"no token mixer is called ''\. Installed: "),
        (BACKBONES, "poolformer_s13", r"no backbone is called .* Did you mean .*'poolformer models' shows where"),
        (BACKBONES, "pooling", r"no backbone is called 'pooling'\."),
        (
            BACKBONES,
            "my_net.small",
            r"called 'my_net\.small'\. A class or function of yours is written 'my_net:small'\.",
        ),
        (
            DATA,
            "FolderDta",
            r"no data module is called 'FolderDta'\. Did you mean 'FolderData'\? Installed: DigitsData, ",
        ),
    ],
)
def test_an_unknown_name_gets_a_suggestion_and_what_is_installed(group, name, message):
    with pytest.raises(UnknownNameError, match=message):
        find(group, name)


def test_a_plugin_is_suggested_and_listed_like_our_own(mixer_package):
    mixer_package("my-dist", "wavelet")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'wavelet'\? Installed: .*pooling, .*wavelet\."):
        find(MIXERS, "wavelets")


def test_a_source_tree_that_is_not_installed_says_so(tmp_path):
    # Without site-packages there is no metadata, not even ours.
    shutil.copytree(Path(poolformer.__file__).parent, tmp_path / "poolformer")
    code = (
        "from poolformer import errors, registry\n"
        "try:\n    registry.find(registry.MIXERS, 'pooling')\n"
        "except errors.UnknownNameError as error:\n    print(error)"
    )
    message = run_python(code, path=tmp_path, flags=("-S",))
    assert "the package poolformer-lightning is not installed. Run 'pip install -e .'" in message


# ---- two packages, one name


def test_of_two_plugins_with_one_name_neither_gets_it(mixer_package):
    mixer_package("first-dist", "my", version="1.0")
    mixer_package("second-dist", "my", version="2.0")
    assert "my" not in listing(MIXERS)
    assert {"first-dist/my", "second-dist/my"} <= listing(MIXERS).keys()
    message = (
        r"token mixer 'my' is offered by first-dist 1\.0 and second-dist 2\.0; "
        r"write 'first-dist/my' or 'second-dist/my'\."
    )
    with pytest.raises(AmbiguousNameError, match=message):
        find(MIXERS, "my")
    assert find(MIXERS, "second-dist/my").load().__module__ == "second_dist"


@pytest.mark.parametrize("rivals", [["my-dist"], ["my-dist", "other-dist"]], ids=["one plugin", "two plugins"])
def test_a_built_in_keeps_its_name_and_the_plugin_stays_reachable(mixer_package, rivals):
    for rival in rivals:
        mixer_package(rival, "pooling")
    assert find(MIXERS, "pooling").builtin
    assert listing(MIXERS)["pooling"].builtin
    for rival in rivals:
        assert listing(MIXERS)[f"{rival}/pooling"].origin == f"{rival} 1.0"
        assert find(MIXERS, f"{rival}/pooling").load().__module__ == rival.replace("-", "_")


def test_the_same_name_for_a_mixer_and_a_backbone_is_no_conflict(fake_plugin):
    points = {MIXERS: {"my": "my_dist:Factory"}, BACKBONES: {"my": "my_dist:Factory"}}
    fake_plugin(name="my-dist", entry_points=points, modules={"my_dist": MIXER})
    assert find(MIXERS, "my").kind == "token mixer"
    assert find(BACKBONES, "my").kind == "backbone"


# ---- broken packages

BROKEN = {
    "missing dependency": (
        "import a_missing_dependency",
        "ModuleNotFoundError: No module named 'a_missing_dependency'.",
    ),
    "syntax error": ("def Factory(:", "SyntaxError: "),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3."),
    "error of two lines": ("raise RuntimeError('first\\nsecond')", "RuntimeError: first."),
    "error without text": ("raise ValueError", "ValueError."),
    "missing attribute": ("", "AttributeError: module 'broken_dist' has no attribute 'Factory'."),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_package_that_cannot_be_imported_is_named_with_the_reason(mixer_package, source, reason):
    mixer_package("broken-dist", "my", version="0.3", source=source)
    with pytest.raises(BrokenPluginError) as caught:
        find(MIXERS, "my").load()
    message = str(caught.value)
    start = f"token mixer 'my' of broken-dist 0.3 (broken_dist:Factory) cannot be loaded: {reason}"
    assert message.startswith(start)
    assert message.endswith(" Fix or uninstall that package; the others are not affected.")
    assert "\n" not in message


@pytest.mark.parametrize("value", ["broken_dist:", "not a reference", "broken-dist:Factory", "no_such_module:Factory"])
def test_an_entry_point_that_leads_nowhere_is_named_with_its_package(mixer_package, value):
    mixer_package("broken-dist", "my", value=value)
    with pytest.raises(BrokenPluginError) as caught:
        find(MIXERS, "my").load()
    assert f"of broken-dist 1.0 ({value}) cannot be loaded: " in str(caught.value)


def test_an_entry_point_that_is_no_import_reference_is_explained(mixer_package):
    mixer_package("broken-dist", "my", value="not a reference")
    with pytest.raises(BrokenPluginError, match=r"package\.module:factory"):
        find(MIXERS, "my").load()


def test_a_factory_that_cannot_be_called_is_named_with_its_package(mixer_package):
    mixer_package("broken-dist", "my", source="Factory = 5")
    with pytest.raises(BrokenPluginError, match=r"of broken-dist 1\.0 .* is int and cannot be called; name a function"):
        find(MIXERS, "my").load()


def test_the_cause_of_a_broken_import_is_kept(mixer_package):
    mixer_package("broken-dist", "my", source="import a_missing_dependency")
    with pytest.raises(BrokenPluginError) as caught:
        find(MIXERS, "my").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_control_c_while_a_plugin_is_imported_is_not_a_broken_plugin(mixer_package):
    mixer_package("slow-dist", "my", source="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        find(MIXERS, "my").load()


@pytest.mark.parametrize("source", [source for source, _ in BROKEN.values()], ids=BROKEN)
def test_a_broken_package_harms_only_who_asks_for_it(mixer_package, source):
    mixer_package("broken-dist", "broken", source=source)
    mixer_package("my-dist", "my")
    assert {"broken", "my", "pooling"} <= listing(MIXERS).keys()
    assert callable(find(MIXERS, "my").load())
    assert callable(find(MIXERS, "pooling").load())


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("METADATA", ""),
        ("entry_points.txt", "[poolformer.mixers]\nno equals sign\n"),
    ],
    ids=["no name", "line without a reference"],
)
def test_a_package_with_damaged_metadata_does_not_hide_the_others(mixer_package, file, text):
    folder = mixer_package("damaged-dist", "damaged")
    next(folder.glob(f"*.dist-info/{file}")).write_text(text)
    assert find(MIXERS, "pooling").builtin
    assert "pooling" in listing(MIXERS)


# ---- plugins turned off


@pytest.mark.parametrize(("value", "off"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_plugins_are_turned_off_by_the_environment(mixer_package, monkeypatch, value, off):
    mixer_package("my-dist", "my")
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", value)
    assert ("my" not in listing(MIXERS)) == off
    assert all(entry.builtin for entry in entries(MIXERS)) == off
    assert find(MIXERS, "pooling").builtin


def test_an_unknown_name_says_that_plugins_are_turned_off(mixer_package, monkeypatch):
    mixer_package("my-dist", "my")
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    message = r"no token mixer is called 'my'\. Plugins are turned off by POOLFORMER_DISABLE_PLUGINS\. Installed: "
    with pytest.raises(UnknownNameError, match=message):
        find(MIXERS, "my")


# ---- import references


def test_an_import_reference_finds_a_module_of_the_current_directory(tmp_path):
    # As the console script does: its own folder, not the current one, is first on the path.
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mixer_of_this_morning.py").write_text("def factory(dim):\n    return None\n")
    script = tmp_path / "script.py"
    script.write_text(
        "from poolformer.registry import MIXERS, find\n"
        "print(find(MIXERS, 'mixer_of_this_morning:factory').load().__name__)"
    )
    command = [sys.executable, str(script)]
    result = subprocess.run(command, cwd=tmp_path / "work", check=True, capture_output=True, text=True)
    assert result.stdout == "factory\n"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "no_such_module:f",
            "token mixer 'no_such_module:f' cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'. "
            "It is neither installed nor in the current directory, ",
        ),
        ("math:nope", "token mixer 'math:nope' cannot be loaded: AttributeError: "),
        (
            "math:factoril",
            "token mixer 'math:factoril' cannot be loaded: AttributeError: module 'math' has no attribute 'factoril'. "
            "Did you mean 'factorial'?",
        ),
        ("math:pi", "token mixer 'math:pi' is float and cannot be called; name a function or a class."),
        ("math:", "token mixer 'math:' cannot be loaded: "),
    ],
)
def test_an_import_reference_that_leads_nowhere_says_so(reference, message):
    with pytest.raises(BrokenPluginError) as caught:
        find(MIXERS, reference).load()
    assert str(caught.value).startswith(message)
    assert "uninstall" not in str(caught.value)


def test_a_package_that_is_installed_while_a_process_runs_is_found(tmp_path, on_path):
    on_path(tmp_path)
    assert "later" not in listing(MIXERS)
    metadata = tmp_path / "later-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: later\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[poolformer.mixers]\nlater = later:Mixer\n")
    assert listing(MIXERS)["later"].distribution == "later"
    shutil.rmtree(metadata)
    assert "later" not in listing(MIXERS)
