"""Protocols are read from a few lines, and what is wrong in them is said in one."""

from pathlib import Path

import pytest

from poolformer.cli.training import settings
from poolformer.configs import config_names, protocol_names
from poolformer.errors import ConfigError
from poolformer.judging import fits, protocols
from poolformer.judging.rows import reference_rows

PROBES = """# Probes of a few steps.
# Record: rho 0.60 (0.01 to 0.88)
#   over 11 rows.
# Something else.
# Record: minutes 9.
kind: probes
rows: {identity: identity, wide: {name: depthwise, kernel_size: 5}}
seeds: [0, 1, 1]
tasks: {order: [8, 6, 8]}
settings: {steps: 3}
"""
FITS = """kind: fits
config: cifar10
rows: [identity, pooling]
flags: {trainer.max_epochs: 8, data.val: a b}
tries: {model.lr: [1e-3, 0.002]}
"""
MISTAKES = {
    "kind: probe\n": "is no protocol: 'kind' is 'probe', not probes or fits",
    "kind: probes\nseed: [0]\n": "has no key 'seed' for probes. Did you mean 'seeds'? It takes: kind, rows,",
    "kind: fits\n": "fits need their base in 'config'",
    "kind: probes\nseeds: 3\n": "'seeds' is 3, not a list of integers",
    "kind: probes\nseeds: [-1]\n": "'seeds' is [-1], not a list of integers",
    "kind: probes\nrows: {a: 3}\n": "row 'a' is 3, not a name or a mapping with a mixer's name",
    "kind: probes\nrows: pooling\n": "'rows' is 'pooling', not a mapping",
    "kind: probes\ntasks: {order: 8}\n": "task 'order' has the sides 8, not a list",
    "kind: probes\ntasks: {}\n": "'tasks' is empty: leave it out for all of them",
    "kind: fits\nconfig: [a]\ntries: {model.lr: 1}\n": "'tries' gives 'model.lr' 1, not a list of values",
}


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text)
    return file


def test_a_protocol_of_probes_is_read_with_its_record(tmp_path):
    found = protocols.find_protocol(str(written(tmp_path, PROBES)))
    assert (found.name, found.kind, found.title) == ("mine", "probes", "Probes of a few steps.")
    assert found.record == ("rho 0.60 (0.01 to 0.88) over 11 rows.", "minutes 9.")
    assert found.rows == {"identity": "identity", "wide": {"name": "depthwise", "kernel_size": 5}}
    assert (found.seeds, found.tasks, found.settings) == ((0, 1), {"order": (8, 6)}, {"steps": 3})


def test_a_protocol_of_fits_says_flags_as_options_by_name(tmp_path):
    found = protocols.find_protocol(str(written(tmp_path, FITS)))
    assert (found.config, found.rows) == (("cifar10",), {"identity": "identity", "pooling": "pooling"})
    assert found.flags == ("--trainer.max_epochs", "8", "--data.val", "a b")
    assert (found.tries, found.record) == (("model.lr=1e-3,0.002",), ())


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_the_file_is_said(tmp_path, text):
    with pytest.raises(ConfigError) as refused:
        protocols.read_protocol(written(tmp_path, text))
    assert MISTAKES[text] in str(refused.value)


def test_a_name_that_there_is_not_is_told_with_those_there_are():
    with pytest.raises(ConfigError, match="there is no file 'probs' and no protocol of that name"):
        protocols.find_protocol("probs")


@pytest.mark.parametrize("name", protocols.protocol_names())
def test_every_packaged_protocol_is_read_and_is_no_configuration_of_fit(name):
    assert protocols.find_protocol(name).rows.keys() >= {"identity", "pooling"}
    assert f"protocols/{name}" not in config_names()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in protocol_names() if protocols.find_protocol(name).kind == "fits"])
def test_the_fits_of_a_packaged_protocol_are_options_that_fit_takes(name, tmp_path):
    protocol = protocols.find_protocol(name)
    rows, flags = reference_rows(protocol), ["--data.train", str(tmp_path), "--data.val", str(tmp_path)]
    mixers = [
        settings("fit", fit.run.arguments)["model"]["mixer"] for fit in fits.plan(protocol, rows, [0], tmp_path, flags)
    ]
    assert len(mixers) == len(rows) == len({str(mixer) for mixer in mixers})
    grid = fits.grid_of(protocol, [], rows, flags, share=0.1, seeds=[0])
    tried = [point.values[0][0] for point in grid.points] if grid else []
    assert tried == (["model.lr"] * 3 if protocol.tries else [])
