"""What was found and what was left out, counted by its reason."""

import pytest

from poolformer.data.listing import LOST_LINK, UNREADABLE, Found, Listing, is_hidden, is_image


@pytest.mark.parametrize(("name", "expected"), [("a.JPG", True), ("a.webp", True), ("a.gif", False), ("jpg", False)])
def test_an_image_is_known_by_its_ending(name, expected):
    assert is_image(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"), [(".cache", True), ("Thumbs.db", True), ("PaxHeaders.1", True), ("cat", False)]
)
def test_what_belongs_to_the_system_is_hidden(name, expected):
    assert is_hidden(name) is expected


def listing() -> Listing:
    found = Listing()
    for name in ("0.jpg", "a.gif", "b.GIF", "README", "notes.txt"):
        found.add(("cat",), name, name)
    found.hide(("cat",), ".x")
    found.leave_out(LOST_LINK, ("dog",), "away")
    return found


def test_everything_left_out_is_a_phrase():
    assert listing().left_out() == [
        "2 .gif",
        "1 .txt",
        "1 without an ending",
        "1 hidden ('cat/.x')",
        "1 link that leads nowhere or outside ('dog/away')",
    ]
    assert listing().pictures() == "2 .gif"
    assert listing().images == [Found(("cat",), "0.jpg", "0.jpg")]


def test_folders_that_cannot_be_read_are_all_named():
    found = Listing()
    for name in "abc":
        found.leave_out(UNREADABLE, (), name)
    assert found.left_out() == ["3 folders that cannot be read ('a', 'b', 'c')"]


def test_escapes_in_a_name_are_shown_not_sent():
    found = Listing()
    found.hide((), ".\x1b[31m")
    assert "\x1b" not in "".join(found.left_out())


def test_folders_get_other_names_and_the_rest_is_gone():
    moved = listing().moved({("cat",): ("tiger",)})
    assert [image.folders for image in moved.images] == [("tiger",)]
    assert moved.names_of(LOST_LINK, ("dog",)) == []
    assert moved.all_folders() == {(), ("tiger",)}


def test_a_folder_of_other_files_alone_is_no_class_that_lost_its_images():
    found = Listing()
    found.add(("docs",), "a.txt", "")
    found.add(("cat",), "a.gif", "")
    assert found.holds_other_files_only(("docs",))
    assert not found.holds_other_files_only(("cat",))
