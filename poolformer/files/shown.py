"""Local directories that stand for a URL: whatever is said of their files names the URL."""

import os
from pathlib import Path

_urls: dict[str, str] = {}


def stands_for(folder: Path, url: str) -> None:
    """Have a directory of this process be called by a URL from now on."""
    _urls[str(folder)] = url


def shown(text: str) -> str:
    """Return a text with the URLs in it that local directories stand for."""
    for folder, url in _urls.items():
        text = text.replace(folder, url)
    return text


def on_disk(path: Path) -> str:
    """Return where a path is, for what is wrong with this machine's disk and not with the URL that it stands for."""
    return next((os.path.dirname(each) for each in _urls if str(path).startswith(f"{each}{os.sep}")), str(path))
