"""The backbone, the data modules, and what they refuse."""

import ast
import itertools
import statistics

import numpy as np
import pytest
import torch
from poolformer_text import languages
from poolformer_text.backbone import PADDING, ByteFormer
from poolformer_text.files import TextData
from poolformer_text.languages import LanguageData
from poolformer_text.listops import ListOpsData, expression
from poolformer_text.texts import encoded

from poolformer.errors import DataError, OptionsError
from poolformer.network.complexity import count

MIXERS = ["pooling", "identity", "depthwise", "attention", "random_matrix", "spatial_fc"]


def byte_former(**options) -> ByteFormer:
    torch.manual_seed(0)
    return ByteFormer(3, **{"image_size": 32, "dim": 16, "depth": 4, **options}).double().eval()


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_works_and_learns(mixer):
    network, texts = byte_former(mixer=mixer), encoded(["one text", "another of more bytes than that"], 32)
    network(texts).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_a_list_of_mixers_has_a_quarter_of_the_blocks_each():
    network = byte_former(depth=6, mixer=["identity", "pooling", "depthwise", "attention"])
    kinds = [type(block.token_mixer).__name__ for block in network.blocks]
    assert [(kind, len(list(group))) for kind, group in itertools.groupby(kinds)] == [
        ("Identity", 2), ("Pooling", 1), ("DepthwiseConv", 2), ("Attention", 1)
    ]  # fmt: skip


@pytest.mark.parametrize("mixer", MIXERS)
def test_padding_has_no_part_in_the_logits(mixer):
    network, texts = byte_former(mixer=mixer, position_embedding=1), encoded(["a short text"], 32)
    with torch.no_grad():
        torch.nn.init.normal_(network.pos_embed)
        expected = network(texts)
        network.embedding.weight[PADDING] = 100.0
        network.pos_embed[..., 12:] = 100.0
        torch.testing.assert_close(network(texts), expected, rtol=0, atol=1e-12)


def test_a_text_does_not_depend_on_the_texts_beside_it():
    network, texts = byte_former(mixer="attention"), encoded(["short", "a text that is much longer"], 32)
    torch.testing.assert_close(network(texts)[:1], network(texts[:1]), rtol=0, atol=1e-12)


def test_padding_alone_is_finite():
    assert byte_former()(encoded([""], 32)).isfinite().all()


def test_it_is_counted_on_its_own_example():
    network = ByteFormer(10, image_size=64, mixer="identity", dim=32, depth=4)
    assert network.example_input().shape == (1, 1, 1, 64)
    mlp, norms = 4 * 2 * 32 * 128 * 64, 0  # the layer norm of channels is written out, which no counter sees
    assert count(network, image_size=64).macs == pytest.approx(mlp + norms + 32 * 10, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "group"}, "norm 'group' takes its statistics over the padding"),
        ({"depth": 3}, "depth=3 is at least 4"),
        ({"position_embedding": 2}, "position_embedding=2 1 or nothing"),
    ],
)
def test_what_the_backbone_cannot_be_is_refused(options, message):
    with pytest.raises(OptionsError, match=message):
        byte_former(**options)


def test_texts_are_utf_8_cut_and_padded():
    rows = encoded(["aé", "abcdef"], 4)[:, 0, 0]
    assert rows.tolist() == [[97, 0xC3, 0xA9, PADDING], [97, 98, 99, 100]]


def value_of(text: str) -> int:
    """The value of an expression, read by Python: ``[MAX 4 2 ]`` becomes ``['MAX', 4, 2]``."""
    words = text.replace("[", "[ ").split()
    listed = ast.literal_eval(
        "".join(f"{w!r}," if w.isalpha() else "]," if w == "]" else "[" if w == "[" else f"{w}," for w in words).rstrip(
            ","
        )
    )

    def value(item):
        if isinstance(item, int):
            return item
        name, *values = item
        values = [value(each) for each in values]
        of = {"MIN": min, "MAX": max, "MED": lambda v: int(statistics.median(v)), "SM": lambda v: sum(v) % 10}
        return of[name](values)

    return value(listed)


def test_an_expression_has_the_value_that_it_says():
    generator = np.random.default_rng(1)
    drawn = [expression(generator, depth=4, arguments=5) for _ in range(300)]
    assert all(value_of(text) == value for text, value in drawn)
    assert {value for _, value in drawn} == set(range(10))
    assert max(text.count("[") for text, _ in drawn) > 3


def test_listops_are_the_same_for_all_runs_and_none_comes_twice():
    one, same, other = (ListOpsData(200, 50, data_seed=s, seed=r) for s, r in ((0, 0), (0, 5), (1, 0)))
    sets = [module.splits() for module in (one, same, other)]
    assert sets[0] == sets[1] != sets[2]
    assert len({text for rows in sets[0].values() for text, _ in rows}) == 250
    assert all(len(text) <= 128 for text, _ in sets[0]["train"])


def test_batches_follow_the_seed_and_the_epoch():
    def batches(seed, epoch):
        module = ListOpsData(200, 50, batch_size=64, seed=seed)
        loader = module.train_dataloader()
        loader.set_epoch(epoch)
        return torch.cat([labels for _, labels in loader]).tolist()

    assert batches(0, 0) == batches(0, 0)
    assert batches(0, 0) != batches(0, 1)
    assert batches(0, 0) != batches(1, 0)
    assert len(batches(0, 0)) == 192  # whole batches
    texts, labels = next(iter(ListOpsData(200, 50, batch_size=64).val_dataloader()))
    assert texts.shape == (50, 1, 1, 128)
    assert (texts.dtype, labels.dtype) == (torch.int64, torch.int64)


@pytest.fixture
def texts(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "train" / name / f"{number}.txt").write_text(f"{name} {number}")
    (tmp_path / "val.TSV").write_text("text\tlabel\nwoof\tdog\n")
    (tmp_path / "val.csv").write_text('label,text\ncat,"meow, he said"\n')
    return tmp_path


def test_folders_and_tables_are_read(texts):
    module = TextData(str(texts / "train"), str(texts / "val.csv"), batch_size=2)
    assert module.class_names == ["cat", "dog"]
    assert module.num_classes == 2
    assert module.splits()["train"][4] == ("dog 1", 1)
    assert module.splits()["val"] == [("meow, he said", 0)]
    assert TextData(str(texts / "train"), str(texts / "val.TSV")).splits()["val"] == [("woof", 1)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "No such file"),
        ("other.csv", b"a,b\n1,2\n", r"has no text and label: \['a', 'b'\]"),
        ("short.csv", b"text,label\none\n", "line 2: a column is missing"),
        ("swapped.csv", b"label,text\na\n", "line 2: a column is missing"),
        ("unlabelled.csv", b"text,label\none,\n", "line 2: the label is empty"),
        ("long.csv", b"text,label\none, two,a\n", "line 2: there is more than the 2 columns; .* stands in quotes"),
        ("bytes.csv", b"text,label\n\xff,a\n", "cannot be read as a table"),
        ("empty.csv", b"text,label\n", "there is no row in it"),
        ("classes.csv", b"text,label\nmoo,cow\n", "has classes that .* has not: cow"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(texts, name, content, message):
    if content is not None:
        (texts / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        TextData(str(texts / "train"), str(texts / name))


def test_the_mark_that_some_editors_begin_a_file_with_is_no_part_of_its_text(texts):
    for file in (texts / "train" / "cat" / "0.txt", texts / "val.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    sets = TextData(str(texts / "train"), str(texts / "val.csv")).splits()
    assert (sets["train"][0], sets["val"]) == (("cat 0", 0), [("meow, he said", 0)])


def test_a_folder_without_texts_and_a_file_that_is_no_text_are_named(texts):
    with pytest.raises(DataError, match=r"there is no CLASS/\*.txt in it"):
        TextData(str(texts / "train" / "cat"), str(texts / "val.csv"))
    (texts / "train" / "cat" / "0.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"0.txt is not UTF-8"):
        TextData(str(texts / "train"), str(texts / "val.csv"))


@pytest.fixture
def catalogues(monkeypatch):
    """Messages of three languages, as `_catalogues` reads them."""
    words = {"de": "Guten Tag, lieber Mensch", "fr": "Bonjour, mon cher ami", "el": "Καλημέρα σας"}
    messages = {language: {f"message {n}": f"{text} {n}" for n in range(50)} for language, text in words.items()}
    monkeypatch.setattr(languages, "_catalogues", lambda package: messages)


def test_a_message_is_trained_or_validated_on_in_all_languages(catalogues):
    module = LanguageData("any", languages=2)
    sets = module.splits()
    assert module.class_names == ["de", "fr"]  # Greek letters give themselves away
    numbers = {split: {(label, text.split()[-1]) for text, label in rows} for split, rows in sets.items()}
    assert {n for label, n in numbers["val"] if label == 0} == {n for label, n in numbers["val"] if label == 1}
    assert not {n for _, n in numbers["val"]} & {n for _, n in numbers["train"]}
    assert sum(len(rows) for rows in sets.values()) == 100


def test_too_few_languages_and_packages_without_are_named(catalogues, monkeypatch):
    with pytest.raises(DataError, match="any has messages in 2 languages of Latin letters"):
        LanguageData("any", languages=3)
    monkeypatch.undo()
    with pytest.raises(DataError, match="there is no package 'no_such_package' here"):
        LanguageData("no_such_package")
    with pytest.raises(DataError, match="package 'json' has no translations"):
        LanguageData("json")


def test_catalogues_of_a_package_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "translated" / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (tmp_path / "translated" / "__init__.py").touch()
    (folder / "it.mo").write_bytes(
        machine_object({"Good day to you all": "Guten Tag euch allen zusammen", "Yes": "Ja"})
    )
    monkeypatch.syspath_prepend(tmp_path)
    read = languages._catalogues("translated")
    assert read == {"de": {"Good day to you all": "Guten Tag euch allen zusammen"}}
    for spoilt in (b"none", b"", machine_object({"a": "b"})[:30]):
        (folder / "it.mo").write_bytes(spoilt)
        with pytest.raises(DataError, match=r"it.mo is not a translation catalogue"):
            languages._catalogues("translated")


def machine_object(messages: dict[str, str]) -> bytes:
    """The file format of GNU gettext: a header, two tables of (length, place), the strings."""
    messages = {"": "Content-Type: text/plain; charset=UTF-8\n", **messages}
    pairs = [(source.encode(), text.encode()) for source, text in sorted(messages.items())]
    count, place, data, tables = len(pairs), 28 + 16 * len(pairs), b"", b""
    for column in (0, 1):
        for pair in pairs:
            tables += np.array([len(pair[column]), place + len(data)], "<u4").tobytes()
            data += pair[column] + b"\0"
    return np.array([0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0], "<u4").tobytes() + tables + data
