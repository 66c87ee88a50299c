"""What is asked for on the command line of a verb, before the options are parsed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..configs import default_config, find_config, read_config, run_name
from ..files import paths
from ..run import config as run_config
from ..run import earlier_runs
from ..run import files as run_files
from ..run.places import Places
from . import callback_lists, data_path, data_section, model_section, plain_options, said, user_classes

DIGITS = data_section.class_path("DigitsData")


class Asked:
    """A verb with its flags and configuration files.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: What stood behind it on the command line.
        places: What stands for URLs while the command runs.

    Attributes:
        flags: Its arguments without the configuration files.
        files: The configuration files; later ones win.
        contents: What they say.
        data_named: The data module that is asked for, as it is written; None where nobody says so.
        data_class: Its full path; None for a name alone that is none of ours.

    Raises:
        ConfigError: A file cannot be read, or a class that is asked for cannot be imported.
    """

    def __init__(self, verb: str, arguments: list[str], places: Places | None = None):
        self.verb, self.places = verb, places or Places()
        flags, self.files = _split_configs(arguments, self.places)
        model_section.warn_of_dropped(flags)
        self.flags = model_section.with_names_in_flags(data_section.with_class_paths(flags))
        self.contents = model_section.without_foreign_mixers([self._read(file) for file in self.files], self.flags)
        self.contents = model_section.with_names_from_before(self.contents)
        self.contents = model_section.with_names_in_mappings(self.contents, self.flags)
        self.contents = callback_lists.settled(self.read_files, self.flags)
        self.data_named = data_section.named(self.contents, self.flags)
        data_path.refuse(verb, self.data_named)
        user_classes.check(self.read_files, self.flags)
        self.data_class = data_section.chosen_class(self.contents, self.flags)

    def _read(self, file: Path) -> dict[str, Any]:
        """Read a configuration; that of a run means the directory that it is in."""
        content = read_config(file)
        url = self.places.url_of(file.parent)
        if file.name == run_config.NAME and run_config.is_of_a_run(file) and (url or run_files.is_run(file.parent)):
            asked = next(reversed(said.values(self.flags, "--trainer.default_root_dir")), url)
            return run_config.in_its_place(content, file, run_dir=asked and os.path.expanduser(asked))
        return content

    @property
    def read_files(self) -> list[tuple[Path, dict[str, Any]]]:
        """The configuration files with what they say."""
        return list(zip(self.files, self.contents, strict=True))

    @property
    def words(self) -> list[str]:
        """The arguments for the parser: files first, as flags win wherever they stand, and as text: they are read."""
        contents = [data_section.of_class(content, self.data_class) for content in self.contents]
        texts = [plain_options.in_one_line(content) for content in contents]
        return [word for text in texts for word in ("--config", text)] + self.flags

    @property
    def words_before_checkpoint(self) -> list[str]:
        """The same without what can only be answered when the checkpoint is read: help, and options of its data."""
        return list(self._without_what_waits())

    def _without_what_waits(self) -> Iterator[str]:
        waits = False
        for word in self.words:
            waits = waits and not word.startswith("--")  # the value of an option that waits
            if word.startswith("--data.") and not self.data_class and not word.startswith("--data.class_path"):
                waits = "=" not in word
            elif not waits and word not in ("-h", "--help") and not word.startswith("--print_config"):
                yield word

    @property
    def wants_help(self) -> bool:
        return bool({"-h", "--help"} & set(self.flags))

    @property
    def wants_no_run(self) -> bool:
        """Whether all that is wanted is an answer, so that nothing has to be locked or written."""
        return self.wants_help or any(word.startswith("--print_config") for word in self.flags)

    @property
    def takes_defaults_of_digits(self) -> bool:
        """Whether ``fit`` has no configuration and no other data: then digits.yaml holds."""
        return self.verb == "fit" and not self.files and self.data_named in (None, DIGITS)

    @property
    def defaults(self) -> dict[str, Any]:
        """What holds below everything that is said, beside the defaults of the signatures."""
        if not self.takes_defaults_of_digits:
            return {}
        [content] = model_section.without_foreign_mixers([read_config(default_config())], self.flags)
        return data_section.of_class(content, self.data_class)

    @property
    def description(self) -> str:
        """What ``--help`` says of the defaults that it shows."""
        if self.takes_defaults_of_digits:
            return "Defaults: digits.yaml, as there is no --config; with one, the paper's are shown."
        return "Defaults: the paper's; --print_config shows what --config files make of them."

    @property
    def name(self) -> str | None:
        """What a run is called after its configurations; None without one."""
        return run_name(self.files)


def _split_configs(arguments: list[str], places: Places) -> tuple[list[str], list[Path]]:
    """Split the arguments into flags and configuration files, packaged names replaced by their files."""
    flags, configs = said.without_configs(arguments)
    files = []
    for config in configs:
        is_url = paths.is_url(config)
        file = str(places.config(config)) if is_url else paths.local(paths.without_scheme(config), "--config")
        if Path(file).name == run_config.NAME:
            earlier_runs.recover(Path(file).parent)
        files.append(find_config(file))
    return flags, files
