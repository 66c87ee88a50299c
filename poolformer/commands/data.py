"""List the data modules of all installed packages; with a NAME, its description and options."""

from ..factory_options import parameters
from ..registry import DATA
from .names import Listing, show


def main(argv: list[str]) -> int:
    """Print the names, or what one of them takes; the names alone import nothing."""
    return show(Listing(DATA, "data", "--data", parameters), __doc__, argv)
