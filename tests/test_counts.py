from poolformer.counts import counted


def test_one_is_one_and_others_are_several():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "class") == "1 class"
    assert counted(1000, "class") == "1000 classes"
