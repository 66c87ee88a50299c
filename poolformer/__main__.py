"""``python -m poolformer`` is the command ``poolformer``."""

import sys

from .cli.dispatch import main

if __name__ == "__main__":
    sys.exit(main())
