"""The JSON schema of configuration files: made of the signatures that the options come from, by jsonargparse."""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Any

import lightning.pytorch as pl
from jsonargparse import ArgumentParser

from ..classifier import ImageClassifier
from ..errors import RegistryError
from ..network.mixer_spec import option_parameters
from ..registry import BACKBONES, DATA, MIXERS, Entry, listing
from .option_texts import TEXTS
from .options import add_process_options
from .parser import Parser

Schema = dict[str, Any]

_CLASSES = {"callbacks": "callbacks", "logger": "loggers", "profiler": "profilers"}
_SEVERAL = ("callbacks", "logger", "plugins")
_OBJECTS = (*_CLASSES, "accelerator", "strategy", "plugins")
"""Options of the trainer that take objects, the first of them with the module of Lightning's that has some."""


def of_configurations(*, plugins: bool = True) -> Schema:
    """Return the schema of what ``--config`` reads, by JSON Schema's draft 7.

    Args:
        plugins: Whether mixers, backbones and data modules of other packages are in it.
    """
    parser = Parser(add_help=False)
    parser.add_argument("--seed_everything", type=bool | int, default=42)
    parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint to resume from or to evaluate.")
    parser.add_argument("--verbose", type=bool, default=True)
    parser.add_argument("--return_predictions", type=bool | None, default=None)
    add_process_options(parser, "predict")  # all that any of the verbs has
    parser.add_class_arguments(ImageClassifier, "model")
    parser.add_class_arguments(pl.Trainer, "trainer", skip=set(_OBJECTS))
    schema = _plain(json.loads(parser.get_completion_script("jsonschema")))
    sections = schema["properties"]
    model, trainer = sections["model"]["properties"], sections["trainer"]["properties"]
    model["backbone"].pop("type")
    model["backbone"]["anyOf"] = [{"enum": list(_listed(BACKBONES, plugins))}, {"type": "string"}]
    model["mixer"].pop("anyOf")
    model["mixer"]["anyOf"] = [
        {"type": "null"},
        {"$ref": "#/definitions/mixer"},
        {"type": "array", "items": {"$ref": "#/definitions/mixer"}, "minItems": 4, "maxItems": 4},
    ]
    for name in _OBJECTS:
        one = {"$ref": f"#/definitions/{name}"}
        several = [{"type": "array", "items": one}] if name in _SEVERAL else []
        trainer[name] = {"anyOf": [{"type": ["boolean", "null"]}, one, *several]}
        if several:
            trainer[f"{name}+"] = {"anyOf": [one, *several]}
    sections["data"] = _one_of(_data_modules(plugins), needs_class=False)
    for name, option in [*sections.items(), *((f"trainer.{name}", option) for name, option in trainer.items())]:
        if name in TEXTS:
            option["description"] = TEXTS[name]
        elif name.startswith("trainer.") and (said := option.get("description")):
            option["description"] = re.sub(r"\s*Default: ``[^`]*``\.?", "", said).replace("``", "")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Of lightning {version('lightning')} and jsonargparse {version('jsonargparse')}",
        "title": "A configuration of poolformer",
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {r"^(model|data|trainer)\.": True},  # model.lr: 0.1
        "properties": sections,
        "definitions": {"mixer": of_a_mixer(plugins=plugins), **{name: _objects(name) for name in _OBJECTS}},
    }


def _listed(group: str, plugins: bool) -> dict[str, Entry]:
    return {name: entry for name, entry in sorted(listing(group).items()) if plugins or entry.builtin}


def of_a_mixer(*, plugins: bool = True) -> Schema:
    """Return what is written for a token mixer: a name, or a mapping whose options are those of its factory.

    Args:
        plugins: Whether mixers of other packages are known; what is not known may have any options.
    """
    known = {}
    for name, entry in _listed(MIXERS, plugins).items():
        try:
            factory = entry.load()
            options = _options_of(factory, only=option_parameters(factory))
        except RegistryError:  # that package is broken
            options = None
        known[name] = options
    named = {"anyOf": [{"enum": list(known)}, {"type": "string"}]}
    rules = [
        _if("name", [name], {"properties": {"name": True, **each["properties"]}, "additionalProperties": False})
        for name, each in known.items()
        if each is not None
    ]
    return {"anyOf": [named, {"type": "object", "properties": {"name": named}, "allOf": rules}]}


def _data_modules(plugins: bool) -> dict[tuple[str, ...], Schema | None]:
    known: dict[tuple[str, ...], Schema | None] = {}
    for name, entry in _listed(DATA, plugins).items():
        try:
            known[name, entry.import_path] = _options_of(entry.load())
        except RegistryError:
            known[(name,)] = None
    return known


def _objects(option: str) -> Schema:
    """Return what is written for one object of an option of the trainer that takes such."""
    known: dict[tuple[str, ...], Schema | None] = {}
    if option in _CLASSES:
        place = f"lightning.pytorch.{_CLASSES[option]}"
        module = importlib.import_module(place)
        for name in module.__all__:
            of_lightning = getattr(module, name)
            if inspect.isclass(of_lightning) and not inspect.isabstract(of_lightning):
                known[f"{place}.{name}", name, f"{of_lightning.__module__}.{name}"] = _options_of(of_lightning)
    return _one_of(known)


def _one_of(known: dict[tuple[str, ...], Schema | None], *, needs_class: bool = True) -> Schema:
    """Return what is written for an object: its class alone, or that and its arguments.

    Args:
        known: Classes under the names that they may be written by, with their options; None for any.
        needs_class: Whether there is none without one.
    """
    first = [names[0] for names in known]
    named = {"anyOf": [*([{"enum": first}] if first else []), {"type": "string"}]}
    rules = [
        _if("class_path", list(names), {"properties": {"init_args": options}})
        for names, options in known.items()
        if options is not None
    ]
    mapping = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "class_path": named,
            "init_args": {"type": ["object", "null"]},
            "dict_kwargs": {"type": "object"},
        },
        **({"required": ["class_path"]} if needs_class else {}),
        **({"allOf": rules} if rules else {}),
    }
    return {"anyOf": [named, mapping]}


def _if(key: str, values: Collection[str], then: Schema) -> Schema:
    return {"if": {"properties": {key: {"enum": list(values)}}, "required": [key]}, "then": then}


def _options_of(factory: Callable[..., Any], only: Collection[str] | None = None) -> Schema | None:
    """Return the options of a class or a function, None where jsonargparse cannot tell them.

    Args:
        factory: The class or function.
        only: Names of those that the user gives; None for all.
    """
    parser = ArgumentParser(add_help=False)
    add = parser.add_class_arguments if inspect.isclass(factory) else parser.add_function_arguments
    hidden: set[str | int] = (
        set() if only is None else {name for name in inspect.signature(factory).parameters if name not in only}
    )
    try:
        add(factory, "it", skip=hidden, fail_untyped=False)
        found = json.loads(parser.get_completion_script("jsonschema"))
    except Exception:  # of ModelPruning, one of whose options is a type, it does not know how
        return None
    options = _plain(found)["properties"].get("it", {"type": "object", "additionalProperties": False})
    options.pop("required", None)  # overlays say a part
    options.setdefault("properties", {})
    return options


def _plain(schema: Any) -> Any:
    """Return a schema of jsonargparse's as files are written, and by draft 7, which editors know.

    A list option may be added to, a nested class be any. The key by which a file may name its schema is left out
    everywhere, as our files are read without it.
    """
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {name: value for name, value in schema.items() if name not in ("$ref", "default")}
    plain = {name: _plain(value) for name, value in schema.items() if name not in ("$defs", "default")}
    if "default" in schema:
        plain["default"] = schema["default"]
    if tuple_of := plain.pop("prefixItems", None):
        first, *others = tuple_of
        plain["items"] = first if all(each == first for each in others) else {"anyOf": tuple_of}
        plain["maxItems"] = len(tuple_of)
    if isinstance(plain.get("description"), str):
        plain["description"] = " ".join(plain["description"].split())
    if isinstance(plain.get("properties"), dict):
        plain["properties"].pop("$schema", None)
        lists = [name for name, option in plain["properties"].items() if '"array"' in json.dumps(option)]
        if lists:
            plain["patternProperties"] = {rf"^({'|'.join(lists)})\+$": True}
    return plain
