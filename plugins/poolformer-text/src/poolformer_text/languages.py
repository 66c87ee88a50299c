"""Which language is it? From the translations that an installed package brings, so without a download."""

import gettext
import importlib.util
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from poolformer.errors import DataError

from .texts import TextModule

_SHORTEST = 24  # bytes: what is shorter is often a word that several languages have
_VALIDATED = 5  # one message of so many


class LanguageData(TextModule):
    """Messages of the translation catalogues (``.mo``) of a package: a class is a language.

    A message, in all languages, is either trained or validated on. Languages are those with the most messages
    among those that are written in Latin letters, which the bytes alone do not give away.

    Args:
        package: An installed package with catalogues at ``locale/LANGUAGE/LC_MESSAGES``, such as django.
        languages: How many.
        batch_size: Messages a device and step.
        image_size: Bytes of a message that are looked at; what is longer is cut.
        seed: Seed of the order; null for that of --seed_everything.

    Raises:
        DataError: The package is not installed, or has not so many languages.
    """

    def __init__(
        self,
        package: str = "django",
        languages: int = 30,
        batch_size: int = 64,
        image_size: int = 128,
        seed: int | None = None,
    ):
        super().__init__(batch_size, image_size, seed)
        self.save_hyperparameters()
        if languages < 2:
            raise DataError(f"--data.languages {languages} is at least 2")
        messages = {language: found for language, found in _catalogues(package).items() if _is_latin(found)}
        if len(messages) < languages:
            raise DataError(
                f"{package} has messages in {len(messages)} languages of Latin letters, fewer than --data.languages "
                f"{languages}"
            )
        self.class_names = sorted(
            sorted(messages, key=lambda language: (-len(messages[language]), language))[:languages]
        )
        self._messages = [messages[language] for language in self.class_names]

    def splits(self) -> dict[str, list[tuple[str, int]]]:
        """Divide the messages by what they say in the source language."""
        sets: dict[str, list[tuple[str, int]]] = {"train": [], "val": []}
        for label, messages in enumerate(self._messages):
            for source, text in messages.items():
                split = "val" if zlib.crc32(source.encode()) % _VALIDATED == 0 else "train"
                sets[split].append((text, label))
        return sets


def _catalogues(package: str) -> dict[str, dict[str, str]]:
    """Read the messages of each language: {language: {source: text}}."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(_folder(package).rglob("locale/*/LC_MESSAGES/*.mo")):
        try:
            with file.open("rb") as opened:
                catalogue = gettext.GNUTranslations(opened)
        except (OSError, ValueError, LookupError, struct.error) as error:  # struct's, of one that is cut off
            raise DataError(f"{file} is not a translation catalogue: {error}") from error
        for source, text in _messages(catalogue):
            if text != source and len(text.encode()) >= _SHORTEST:
                found.setdefault(file.parents[1].name, {})[source] = text
    if not found:
        raise DataError(f"package {package!r} has no translations at locale/LANGUAGE/LC_MESSAGES/*.mo")
    return found


def _folder(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"there is no package {package!r} here; --data.package takes an installed one (pip install django)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _messages(catalogue: gettext.GNUTranslations) -> Iterator[tuple[str, str]]:
    # What gettext offers looks a message up; a list of all is only in the attribute that it looks in.
    for source, text in getattr(catalogue, "_catalog", {}).items():
        if isinstance(source, str) and source:
            yield source, text


def _is_latin(messages: dict[str, str]) -> bool:
    letters = "".join(messages.values()).encode()
    return sum(byte < 128 for byte in letters) > 0.8 * len(letters)
