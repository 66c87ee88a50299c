"""What a configuration says about data, turned over to the data module that is asked for."""

import pytest

from poolformer.cli.data_section import chosen_class, class_path, has_image_size, image_size_of, named, of_class

DIGITS, FOLDER = "poolformer.data.DigitsData", "poolformer.data.FolderData"


def test_our_names_are_short():
    assert class_path("DigitsData") == DIGITS
    assert class_path("mine.Data") == "mine.Data"


@pytest.mark.parametrize(
    ("contents", "flags", "expected"),
    [
        ([], [], None),
        ([{"data": "FolderData"}], [], FOLDER),
        ([{"data": {"class_path": "FolderData"}}, {"model": {}}], [], FOLDER),
        ([{"data": "FolderData"}, {"data": "DigitsData"}], [], DIGITS),
        ([{"data": "FolderData"}], ["--data", "DigitsData"], DIGITS),
        ([], ["--data=mine.Data", "--data.class_path", "FolderData"], FOLDER),
        ([], ["--data"], ""),
    ],
)
def test_the_last_one_named_counts_and_flags_win(contents, flags, expected):
    assert named(contents, flags) == expected


@pytest.mark.parametrize(("name", "expected"), [("mine.Data", "mine.Data"), ("Mine", None), ("a/b.py", None)])
def test_a_class_is_chosen_by_its_full_path(name, expected):
    assert chosen_class([{"data": name}], []) == expected


def test_options_that_the_other_module_does_not_have_are_left_behind():
    content = {"data": {"class_path": "DigitsData", "init_args": {"batch_size": 7, "shift": 0.5}}, "model": {}}
    assert of_class(content, FOLDER) == {"data": {"class_path": FOLDER, "init_args": {"batch_size": 7}}, "model": {}}
    assert of_class(content, DIGITS)["data"]["init_args"] == {"batch_size": 7, "shift": 0.5}
    assert of_class(content, None) is content


def test_the_size_of_images_is_that_of_the_data():
    assert has_image_size(DIGITS)
    assert image_size_of({"init_args": {"image_size": 8}}) == 8
    assert image_size_of(None) == 224
