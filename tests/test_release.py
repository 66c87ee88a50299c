"""What is published: names, versions, and the built distributions used where no checkout is."""

import re
from pathlib import Path

import pytest

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
