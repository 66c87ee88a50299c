"""Options of a checkpoint as the defaults of a verb: below everything that is said, above those of the signatures."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info

from ..run import earlier_runs, provenance, resume, same_run
from . import class_count, data_section, plain_options
from .asked import Asked
from .parser import Parser

_OTHER_FILES = {data_section.class_path(name) for name in ("FFCVData", "FolderData")}
_FILES = ("train", "val", "test", "predict", "val_share", "tune_share")


def take(options: Namespace, asked: Asked, parser: Parser) -> resume.Resume:
    """Read the checkpoint that the options name, and give the parser its options as defaults.

    Args:
        options: Of the verb, as far as they are known without the checkpoint.
        asked: What is asked for on the command line.
        parser: Of the verb.

    Raises:
        CheckpointError: There is no such checkpoint, it is damaged, or it names what the user has to vouch for.
    """
    found = resume.plan(options.ckpt_path, _recovered(options))
    found.check_imports(options.model)
    section = found.data_section
    if section is not None:
        data_class = asked.data_class or found.trained_on
        assert data_class is not None  # a section is of one of our modules
        parser.data_class = data_class
        section = data_section.of_class(section, data_class, known_options_only=True)
        if {data_class, found.trained_on} == _OTHER_FILES:
            section["data"]["init_args"] = _without_files(section["data"]["init_args"])
        parser.set_section_defaults(section)
    elif asked.data_named is None:
        raise provenance.unknown(found.path, found.trained_on)
    parser.set_section_defaults({"model": found.model})
    return found


def _without_files(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of images without those that say which: .beton files are no folders, nor the other way round."""
    return {name: value for name, value in options.items() if name not in _FILES}


def find_own(options: Namespace, asked: Asked, parser: Parser) -> resume.Resume | None:
    """Return the last checkpoint of the very run that the options mean, None where that has none yet.

    Args:
        options: Of the verb, all of them; the classes of its network are the run's where nobody says how many.
        asked: What is asked for on the command line.
        parser: Of the verb.

    Raises:
        ConfigError: Another run is in its directory.
        CheckpointError: Its last checkpoint is missing or damaged, or names what the user has to vouch for.
    """
    run_dir = _recovered(options)
    if class_count.is_open(asked):
        class_count.keep_of_run(options, run_dir)
    last = same_run.find(run_dir, plain_options.as_mapping(options, parser))
    if last is None:
        return None
    found = resume.plan(str(last), last.parent.parent)
    found.check_imports(options.model)
    return found


def _recovered(options: Namespace) -> Path:
    """Return the run's directory, which an interrupted start may have begun to move away."""
    run_dir = Path(options.trainer.default_root_dir)
    if earlier_runs.recover(run_dir):
        rank_zero_info(f"An interrupted start had begun to move the run in '{run_dir}' away; it is back")
    return run_dir
