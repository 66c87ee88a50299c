"""The listings called in this process."""

import pytest

from poolformer.cli import dispatch as cli


@pytest.fixture
def listing(monkeypatch, tmp_path, capsys):
    """Call a command in this process, in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def listing(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(arguments))
        except SystemExit as left:  # argparse
            code = left.code
        return code, *capsys.readouterr()

    return listing


@pytest.fixture
def ours_alone(monkeypatch):
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
