"""The listing of data modules."""

import json
import sys

from poolformer import __version__
from poolformer.registry import DISTRIBUTION

OURS = f"{DISTRIBUTION} {__version__}"

DATA = '''
from lightning.pytorch import LightningDataModule


class Base(LightningDataModule):
    def __init__(self, seed: int = 3):
        super().__init__()


class Data(Base):
    """Images of mine."""

    def __init__(self, root: str, batch_size: int = 64, **kwargs):
        super().__init__(**kwargs)
'''


def test_data_lists_names_with_package_version_and_class(listing, ours_alone):
    code, out, err = listing("data")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()[:3]] == [
        [name, *OURS.split(), f"poolformer.data:{name}"] for name in ("DigitsData", "FFCVData", "FolderData")
    ]
    assert out.rstrip().endswith("'poolformer data NAME' shows what one takes; use it with --data NAME.")
    rows = json.loads(listing("data", "--json")[1])
    assert rows[2] == {
        "name": "FolderData",
        "package": DISTRIBUTION,
        "version": __version__,
        "factory": "poolformer.data:FolderData",
    }


def test_a_plugin_is_listed_without_importing_it_and_shown_when_asked_for(listing, fake_plugin):
    fake_plugin(
        name="My_Dist", entry_points={"poolformer.data": {"mine": "mine_data:Data"}}, modules={"mine_data": DATA}
    )
    assert ["mine", "my-dist", "1.0", "mine_data:Data"] in [line.split() for line in listing("data")[1].splitlines()]
    assert "mine_data" not in sys.modules
    code, out, _ = listing("data", "mine")
    assert code == 0
    title, summary, _, _, *options = out.splitlines()
    assert (title, summary) == ("mine  (my-dist 1.0, mine_data:Data)", "Images of mine.")
    assert [option.strip() for option in options] == ["root: str", "batch_size: int = 64", "seed: int = 3"]


def test_an_unknown_name_is_a_line(listing, ours_alone):
    code, out, err = listing("data", "FolderDat")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("poolformer: error: no data module is called 'FolderDat'. Did you mean 'FolderData'?")
