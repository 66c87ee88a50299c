"""The notebook runs from top to bottom, in a folder of its own."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "a-mixer-in-ten-minutes.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
TEXT = "".join("".join(cell["source"]) + "\n" for cell in CELLS if cell["cell_type"] == "markdown")


def run_cell(source: str, names: dict[str, object]) -> None:
    """Run a cell as Jupyter does, of whose magic the notebook uses one line."""
    if source.startswith("%%writefile "):
        head, body = source.split("\n", 1)
        Path(head.split()[1]).write_text(body, encoding="utf-8")
    else:
        exec(source, names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a run of one step
def test_every_cell_runs_and_prints_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as Jupyter has the folder of a notebook
    names: dict[str, object] = {}
    for cell in CODE[:-1]:
        run_cell("".join(cell["source"]), names)
        shown = "".join(line for output in cell["outputs"] for line in output["text"])
        assert shown.startswith("Writing ") or capsys.readouterr().out == shown
    training = "".join(CODE[-1]["source"])
    short = training.replace("EPOCHS = 10", "EPOCHS = 1").replace("Trainer(", "Trainer(limit_train_batches=1, ")
    assert short.count("EPOCHS = 1\n") == short.count("limit_train_batches=1") == 1
    run_cell(short, names)
    trained = re.findall(r"^[\d.]+%  (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert trained == ["rows_and_columns:RowsAndColumns", "pooling", "identity"]


def test_its_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_its_commands_name_its_mixer():
    commands = re.findall(r"^    (poolformer .+)$", TEXT, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["judge", "ablate", "new-plugin"]
    assert all("rows_and_columns" in command for command in commands)
