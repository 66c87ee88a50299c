"""Each folder below a root is read once, whatever leads to it."""

import os

import pytest

from poolformer.data.file_tree import list_folder
from poolformer.data.listing import LOST_LINK, NO_FILE, SECOND_LINK
from poolformer.errors import DataError


@pytest.fixture
def root(tmp_path):
    for place in ("root/cat/deep/0.jpg", "root/dog/1.jpg", "outside/2.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    return tmp_path / "root"


def test_images_have_the_folders_that_they_lie_in(root):
    found = list_folder(root)
    assert sorted((image.folders, image.name) for image in found.images) == [
        (("cat", "deep"), "0.jpg"),
        (("dog",), "1.jpg"),
    ]
    assert found.folders == {("cat",), ("cat", "deep"), ("dog",)}


def test_a_link_is_followed_once_and_never_upwards(root):
    (root / "one").symlink_to("../outside")
    (root / "two").symlink_to("../outside")
    (root / "up").symlink_to("..")
    found = list_folder(root)
    assert ("one",) in found.folders
    assert found.links == 1
    assert sorted(found.names_of(SECOND_LINK, ())) == ["two", "up"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="of pipes as POSIX has them")
def test_pipes_and_lost_links_are_left_out(root):
    os.mkfifo(root / "dog" / "pipe.jpg")
    (root / "dog" / "lost.jpg").symlink_to("nowhere")
    found = list_folder(root)
    assert found.names_of(NO_FILE, ("dog",)) == ["pipe.jpg"]
    assert found.names_of(LOST_LINK, ("dog",)) == ["lost.jpg"]


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere' cannot be read: No such file or directory"):
        list_folder(tmp_path / "nowhere")
