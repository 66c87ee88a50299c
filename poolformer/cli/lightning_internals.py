"""LightningCLI with public names for what is private there: every such name of the command line is in this file.

An upgrade that changes one fails in `tests/run/test_lightning_internals.py`, by name.
"""

from collections.abc import Callable, Collection
from typing import Any, Union

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


def try_classes_first(parser: LightningArgumentParser, options: Collection[str]) -> None:
    """Have options that take an object or a word take the path of a class for the first, as any path is a word too."""
    actions: list[Any] = parser._actions
    for action in actions:
        if action.dest in options:
            kinds = sorted(action._typehint.__args__, key=lambda kind: kind is str)  # in the order of trying them
            action._typehint = Union[tuple(kinds)]  # noqa: UP007


class OneVerbCLI(LightningCLI):
    """LightningCLI of one subcommand, with public names for what has to be another here."""

    verb: str
    build_object: Callable[..., Any]
    """Builds an object of a class that the options name."""
    building: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Returns what builds objects in place of another function that does."""

    @property
    def verb_parser(self) -> Any:
        """The parser of the one subcommand."""
        return self._subcommand_parsers[self.verb]

    @property
    def options(self) -> Namespace:
        """The options of the one subcommand."""
        return self.config[self.verb]

    def verb_arguments(self) -> dict[str, Any]:
        """Return what the trainer's method is called with beside model and data."""
        return {}

    def run_verb(self, run: Callable[[], None]) -> None:
        """Call the trainer's method."""
        run()

    def build_trainer(self, options: dict[str, Any], callbacks: list[Callback]) -> pl.Trainer:
        """Build a trainer of its options and of callbacks beside those that they name."""
        return self._instantiate_trainer(options, callbacks)

    @property
    def trainer_options(self) -> dict[str, Any]:
        """The trainer's options, of which those that are classes are built."""
        return {**self._get(self.config_init, "trainer")}

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint overrule the flags (Lightning-AI/pytorch-lightning#21455)."""

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        # Lightning's have the hyper-parameters of the modules recorded.
        for (class_type, subclasses), build in list((self.parser._instantiators or {}).items()):
            self.parser.add_instantiator(self.building(build), class_type, subclasses=subclasses)
        self.parser.add_instantiator(self.building(self.build_object), object)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), **self.verb_arguments()}

    def _run_subcommand(self, subcommand: str) -> None:
        self.run_verb(lambda: super(OneVerbCLI, self)._run_subcommand(subcommand))


class ParsingCLI(OneVerbCLI):
    """Parses, and stops there: no seed is set, nothing is built or run."""

    def _set_seed(self) -> None: ...

    def before_instantiate_classes(self) -> None: ...

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...
