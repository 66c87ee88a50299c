"""Who imports whom: a module knows only what is below it. Read from the source, proved in a process."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import poolformer

ROOT = Path(poolformer.__file__).parent

# From top to bottom: folders, and the modules that stand outside of them. A room knows the rows below it alone, and
# its own modules go in no circle.
LAYERS = [
    ["__main__", "completion", "judging"],
    ["ablation", "bench", "doctor", "teaching"],
    ["cli", "commands"],
    ["trained"],
    ["classifier", "plots"],
    ["rebuilding"],
    ["claims"],
    ["backbones", "run"],
    ["checkpoint", "testing"],
    ["network", "data"],
    ["data.pixels", "kernels", "configs", "optimizers"],
    [
        "factory_options",
        "files",
        "first_word",
        "registry",
        "recipe",
        "requirements",
        "option_ranges",
        "option_words",
        "signals",
        "sizes",
    ],
    ["errors", "draws", "counts"],
]
NETWORKS = ["backbones", "checkpoint.pretrained", "testing.*", "network.*", "kernels.*", "registry"]
# Packages that cost seconds or need not be there, and who may import them at the top of a file; inside
# a function anybody may.
HEAVY = {
    "lightning": ["classifier", "cli.*", "run.*", "checkpoint.writing", "data.*"],
    "torchvision": ["data.*"],
    "sklearn": ["data.*"],
    "timm": [],
    "safetensors": [],
    "ffcv": [],
    "matplotlib": [],
    "submitit": [],
    "pytorch_grad_cam": [],
    "onnx": [],
    "onnxruntime": [],
    "onnxscript": [],
}
# What has to answer at once: `poolformer --help`, `poolformer mixers`.
LIGHT = [
    "__init__",
    "__main__",
    "cli.__init__",
    "cli.dispatch",
    "cli.early",
    "cli.early_values",
    "cli.field_words",
    "cli.option_texts",
    "cli.predicted_words",
    "cli.said",
    "cli.unknown_options",
    "cli.value_words",
    "counts",
    "errors",
    "first_word",
    "registry",
    "requirements",
    "checkpoint.__init__",
    "checkpoint.hub",
    "checkpoint.published",
    "commands.__init__",
    "commands.data",
    "commands.mixers",
    "commands.models",
    "commands.names",
    "completion.command",
    "completion.schema",
    "completion.shells",
    "completion.words",
    "doctor.check",
    "doctor.command",
    "doctor.imports",
    "doctor.job",
    "doctor.machine",
    "doctor.packages",
    "configs",
    "option_words",
    "signals",
    "sizes",
]
# Modules without a test file of their name: those that are one thing for a user, and tested as that, each with the
# file of tests that would fail.
TESTED_AS_ONE = {
    "ablation/test_command.py": ["ablation.arguments", "ablation.notes", "ablation.report", "run.versions"],
    "bench/test_data.py": ["bench.baselines", "bench.ffcv_loader"],
    "bench/test_networks.py": ["bench.candidates", "bench.engines"],
    "checkpoint/test_writing.py": ["run.event_log"],  # on a full disk, as checkpoints are
    "cli/test_help_page.py": ["cli.option_texts"],
    "cli/test_early.py": ["cli.early_values", "option_words"],
    "cli/test_parser.py": ["cli.unknown_options", "cli.value_words"],
    "completion/test_schema.py": ["cli.schema"],
    "cli/test_training.py": ["cli.asked", "cli.checkpoint_defaults", "cli.options"],
    "doctor/test_command.py": ["doctor.check"],
    "data/test_page_order.py": ["data.pages"],
    "data/pixels/test_jpeg_crop.py": [
        "data.pixels.idct",
        "data.pixels.jpeg_bits",
        "data.pixels.jpeg_colour",
        "data.pixels.jpeg_frame",
        "data.pixels.jpeg_scan",
        "data.pixels.lanes",
    ],
    "data/pixels/test_transforms.py": ["data.pixels.image_kernels"],
    "data/pixels/test_jpeg_tiles.py": ["data.pixels.jpeg_recoding"],
    "data/pixels/test_jpeg_warnings.py": ["data.pixels.jpeg_huffman"],
    "data/pixels/test_randaugment.py": ["data.pixels.affine", "data.pixels.colour"],  # an operation each, by its name
    "data/test_batches.py": ["data.preparation"],
    "data/test_beton.py": ["data.beton_stream", "data.open_file"],
    "data/test_classes.py": ["data.class_folders"],
    "data/test_loader.py": ["data.ffcv", "data.images", "data.sources"],
    "commands/test_cam.py": ["network.activation_maps"],
    "commands/test_mixers.py": ["commands.names"],
    "data/test_pack.py": ["commands.pack", "data.pack_source"],
    "data/test_tar_archive.py": ["data.archive_files"],
    "data/test_tar_stream.py": ["data.pack_stream"],
    "files/test_caches.py": ["data.pixels.jit", "files.folders"],
    "kernels/test_operators.py": [
        *("kernels.channel_mix", "kernels.channel_mix_plain", "kernels.channel_mix_triton"),
        "kernels.moments_triton",
        *("kernels.pool_mix", "kernels.pool_mix_plain", "kernels.pool_mix_triton"),
    ],
    "judging/test_command.py": [
        *("judging.blocks", "judging.comparison", "judging.fits", "judging.jobs"),
        "judging.surroundings",
    ],
    "plots/test_curves.py": ["plots.palette", "plots.paper"],
    "run/test_closing.py": ["run.ending"],
    "run/test_optimizing.py": ["network.freezing"],
    "run/test_pictures.py": ["run.picture_log", "run.worst_maps"],
    "teaching/test_command.py": ["run.teacher", "teaching.asking"],
    "run/test_lightning_internals.py": ["cli.lightning_internals"],
    "run/test_loops.py": ["run.held_checkpoint"],
    "run/test_spool.py": ["files.shown", "run.mirror"],
    "run/test_steps.py": ["run.profiling", "run.votes"],
    "test_claims.py": ["rebuilding"],
    "testing/test_contract.py": ["testing.rules"],
}
SLOW_TO_IMPORT = {"torch", "jsonargparse", *HEAVY}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


FILES = {module_name(file): file for file in sorted(ROOT.rglob("*.py"))}
# The contents page stands outside of the rows: it imports by name, when asked.
MODULES = [name for name in FILES if name != "__init__"]


def matches(module: str, patterns: list[str]) -> bool:
    return any(fnmatch(module, pattern) for pattern in patterns)


def room(module: str) -> str:
    """Return the folder of a module, and of one that stands in none its own name."""
    return module.rpartition(".")[0] or module


def layer(module: str) -> int:
    rows = [row for row, rooms in enumerate(LAYERS) if room(module) in rooms]
    assert rows, f"poolformer/{module.replace('.', '/')}.py is in no layer: add it to LAYERS in {Path(__file__).name}"
    return rows[0]


@cache
def imports(module: str, *, at_top: bool = False) -> list[str]:
    """Return what a file imports in absolute names, only what is run on its import if ``at_top``."""
    return list(_found_in(module, at_top))


def _found_in(module: str, at_top: bool) -> Iterator[str]:
    todo: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(module, node)
            yield from (f"{home}.{alias.name}" for alias in node.names)
        elif not (at_top and (_is_run_later(node) or _is_for_types(node))):
            todo.extend(ast.iter_child_nodes(node))


def _is_run_later(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    package = ["poolformer", *module.split(".")][: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


@cache
def ours(module: str, *, at_top: bool = False) -> set[str]:
    """Return the modules of this package that a file imports."""
    found = set()
    for name in imports(module, at_top=at_top):
        inside = name.removeprefix("poolformer.")
        # `from .data import digits` names a module, `from .layers import Scale` something inside one.
        candidates = (inside, inside.rpartition(".")[0], f"{inside}.__init__", f"{inside.rpartition('.')[0]}.__init__")
        if name.startswith("poolformer."):
            found |= {next((home for home in candidates if home in FILES), "__init__")}
    return found - {"__init__"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_layers(module):
    wrong = [other for other in ours(module) if layer(other) <= layer(module) and room(other) != room(module)]
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_each_other_in_no_circle(module):
    assert module not in _reachable(module)


@pytest.mark.parametrize("module", FILES)
def test_nobody_imports_the_mixers(module):
    assert "network.mixers" not in ours(module)


@pytest.mark.parametrize("module", MODULES)
def test_data_and_backbones_do_not_know_each_other(module):
    if module.startswith("data."):
        assert not {"backbones", "network.metaformer"} & _reachable(module)
    if matches(module, NETWORKS):
        assert not [other for other in _reachable(module) if other.startswith("data.")]


@pytest.mark.parametrize("module", [name for name in MODULES if matches(name, NETWORKS)])
def test_networks_do_not_know_lightning(module):
    assert [name for name in imports(module) if name.split(".")[0] in ("lightning", "pytorch_lightning")] == []


@pytest.mark.slow
@pytest.mark.parametrize("package", HEAVY)
def test_a_heavy_package_is_imported_in_the_function_that_needs_it(package):
    at_top = [module for module in FILES if package in {name.split(".")[0] for name in imports(module, at_top=True)}]
    assert [module for module in at_top if not matches(module, HEAVY[package])] == []


@pytest.mark.parametrize("module", LIGHT)
def test_what_answers_at_once_imports_nothing_slow(module):
    everything = _reachable(module, at_top=True) | {module}
    outside = {name.split(".")[0] for each in everything for name in imports(each, at_top=True)}
    assert outside & SLOW_TO_IMPORT == set()


def _reachable(module: str, *, at_top: bool = False) -> set[str]:
    seen, todo = set(), [module]
    while todo:
        new = ours(todo.pop(), at_top=at_top) - seen
        seen |= new
        todo.extend(new)
    return seen


def test_each_module_has_tests_of_its_name_or_of_the_whole_that_it_is_part_of():
    tests = Path(__file__).parent
    elsewhere = [module for modules in TESTED_AS_ONE.values() for module in modules]
    missing = [
        module
        for module in MODULES
        if not module.endswith(("__init__", "__main__"))
        and not (tests / FILES[module].relative_to(ROOT)).with_name(f"test_{FILES[module].name}").is_file()
    ]
    assert sorted(missing) == sorted(elsewhere)
    assert [file for file in TESTED_AS_ONE if not (tests / file).is_file()] == []


@pytest.mark.parametrize(
    "code",
    [
        "import poolformer",
        "import poolformer; dir(poolformer)",
        "from poolformer.registry import BACKBONES, MIXERS, listing; listing(MIXERS), listing(BACKBONES)",
    ],
)
def test_the_package_and_its_listing_import_neither_torch_nor_lightning(code):
    code = f"import sys; {code}; print(sorted({SLOW_TO_IMPORT} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found == "[]\n"


@pytest.mark.slow
def test_a_backbone_is_built_without_lightning_and_a_classifier_without_the_command_line():
    code = (
        "import sys; import poolformer; poolformer.create_backbone('poolformer_tiny', num_classes=2); "
        "print(sorted({'lightning', 'pytorch_lightning', 'timm', 'torchvision'} & sys.modules.keys())); "
        "poolformer.ImageClassifier; print('jsonargparse' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found == "[]\nFalse\n"


@pytest.mark.slow
def test_packing_does_not_import_numba_before_an_image_needs_it():
    code = "import sys; import poolformer.data.pack; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
