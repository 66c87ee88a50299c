"""What is published: names, versions, and the built distributions used where no checkout is."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import torch

import poolformer
from poolformer.registry import DISTRIBUTION

ROOT = Path(__file__).parents[1]
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for path in [
        *ROOT.glob("*.md"),
        ROOT / "pyproject.toml",
        *(
            path
            for folder in ("poolformer", "docs", "configs", "data", "plugins")
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".md", ".toml", ".yaml", ".ipynb")
        ),
    ]
}


def test_nothing_asks_pip_for_the_package_of_another_project():
    # A requirement: poolformer in quotes or after `install`, with an extra, a bound, or nothing.
    asked = re.compile(
        r"""(?:install\s+(?:-\S+\s+)*['"]?|dependencies = \[.*"|test = \[.*")poolformer(?=[\s'"\[=<>~])"""
    )
    assert [str(path.relative_to(ROOT)) for path, text in TEXTS.items() if asked.search(text)] == []


@pytest.mark.parametrize("project", sorted(ROOT.glob("plugins/*/pyproject.toml")), ids=lambda file: file.parent.name)
def test_a_plugin_asks_for_a_version_that_it_works_with(project):
    (bound,) = re.findall(rf'"{DISTRIBUTION}>=([\d.]+)"', project.read_text(encoding="utf-8"))
    assert poolformer.__version__.startswith(bound)


def run(*command: str | Path, **options) -> str:
    # Neither an environment that is active nor PYTHONPATH is to be seen by what is installed elsewhere.
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with our source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    checked = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.10 and 3.11 had none at first
    with tarfile.open(archive) as opened:
        opened.extractall(folder, **checked)
    unpacked = archive.with_suffix("").with_suffix("")
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
        cwd=unpacked,
    )
    return folder


@pytest.fixture(scope="module")
def metadata(built) -> Message:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(opened.read(name).decode())


def test_the_wheel_has_the_package_its_types_its_configurations_and_the_example_plugins(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "poolformer").rglob("*.py")}
    configs = {f"poolformer/_{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    examples = {
        f"poolformer/_example_plugins/my-{kind}-plugin/pyproject.toml" for kind in ("mixer", "backbone", "data")
    }
    assert ours | configs | examples | {"poolformer/py.typed"} <= names
    assert {name for name in names if not name.startswith("poolformer/")} == set()


def test_the_metadata_says_what_the_package_is(metadata):
    assert (metadata["Name"], metadata["Version"]) == (DISTRIBUTION, poolformer.__version__)
    assert metadata["Requires-Python"] == ">=3.10"
    assert f"Programming Language :: Python :: 3.{sys.version_info.minor}" in metadata.get_all("Classifier")
    assert all(re.search(r", https://", url) for url in metadata.get_all("Project-URL"))


def test_every_link_of_the_long_description_leads_somewhere_from_the_package_index(metadata):
    description = metadata.get_payload()
    assert description.startswith("# PoolFormer")
    assert all(part not in description for part in ("```mermaid", ".png", "\n!"))
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_citation_has_the_version_and_is_of_the_paper_that_the_readme_cites():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", poolformer.__version__)
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper["title"] in readme
    assert all(f"{author['family-names']}, {author['given-names']}" in readme for author in paper["authors"])


def share_bytecode(site: Path) -> None:
    """Link what is compiled of these packages here, as `make` has it, to an environment where uv links the sources.

    Python takes what fits the source's size and time, and to compile it all anew is most of a first command's time.
    """
    here = Path(torch.__file__).parents[1]
    for compiled in here.rglob("__pycache__"):
        there = site / compiled.relative_to(here)
        if there.parent.is_dir() and not there.exists():
            with contextlib.suppress(shutil.Error):  # on another file system
                shutil.copytree(compiled, there, copy_function=os.link)


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment_trains_a_plugin_by_names_of_configurations(built, tmp_path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    (wheel,) = built.glob("*.whl")
    run(uv, "venv", "--python", sys.executable, tmp_path / "env")
    bin_ = tmp_path / "env" / "bin"
    install = (uv, "pip", "install", "--quiet", "--python", bin_ / "python", "--constraint", ROOT / "constraints.txt")
    # Gigabytes are linked from uv's cache, where `make` has put them, and never downloaded.
    if subprocess.run([*install, "--offline", wheel], capture_output=True).returncode:
        pytest.skip("uv's cache has not all dependencies: neither has the machine a wheel of them")
    share_bytecode(next((tmp_path / "env").glob("lib/python*/site-packages")))
    assert run(bin_ / "poolformer", "--version", cwd=tmp_path) == f"poolformer {poolformer.__version__}\n"
    printed = run(bin_ / "poolformer", "new-plugin", "my_idea", "my-idea-plugin", cwd=tmp_path)
    assert "pip install -e 'my-idea-plugin[test]'" in printed
    run(*install, "--offline", "--editable", "my-idea-plugin[test]", cwd=tmp_path)  # which asks for our distribution
    listed = run(bin_ / "poolformer", "mixers", cwd=tmp_path)
    assert re.search(rf"^pooling +{DISTRIBUTION} {poolformer.__version__} ", listed, re.MULTILINE)
    assert re.search(r"^my_idea +my-idea-plugin 0\.1\.0 ", listed, re.MULTILINE)
    named = ("--config", "digits", "--config", "extras/ema", "--model.mixer", "my_idea")
    short = [f"--trainer.{name}=1" for name in ("max_epochs", "limit_train_batches", "limit_val_batches")]
    done = run(bin_ / "poolformer", "fit", *named, *short, "--trainer.accelerator", "cpu", cwd=tmp_path)
    assert "after 1 epoch" in done
    assert (tmp_path / "runs" / "digits-ema" / "checkpoints" / "last.ckpt").is_file()
