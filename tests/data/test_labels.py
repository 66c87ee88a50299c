"""Which logit a label of the data means."""

from types import SimpleNamespace

import pytest

from poolformer.data.labels import Classes, check_head, classes_of, logits_of_labels, names_to_learn
from poolformer.errors import ConfigError

KNOWN = ["ant", "bee", "cat"]


def logits(names: list[str] | None, known: list[str] | None = KNOWN, *, count: int = 3, published: bool = False):
    classes = Classes(names, len(names) if names else count)
    return logits_of_labels(classes, known, logits=3, has_published_weights=published)


def test_the_same_classes_need_no_numbers():
    assert logits(KNOWN) is None
    assert logits(["ant", "bee"]) is None  # the first ones


def test_another_order_is_compared_by_name():
    assert logits(["cat", "ant"]) == [2, 0]


def test_classes_that_the_network_does_not_know_are_refused():
    with pytest.raises(ConfigError, match="dog"):
        logits(["ant", "dog"])


def test_without_names_labels_are_positions():
    assert logits(None) is None
    assert logits(KNOWN, None) is None


def test_a_part_of_the_classes_of_published_weights_is_not_taken_by_position():
    with pytest.raises(ConfigError, match="Evaluate on all its classes"):
        logits(["ant", "bee"], None, published=True)


def test_the_logits_learn_the_classes_of_the_data_or_keep_what_they_mean():
    assert names_to_learn(Classes(["b", "a"], 2), ["a", "b"], logits=2) == ["b", "a"]
    assert names_to_learn(Classes(None, 2), ["a", "b"], logits=2) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"--model\.num_classes 3"):
        names_to_learn(Classes(KNOWN, 3), None, logits=2)


def test_classes_are_those_that_the_data_module_names():
    assert classes_of(SimpleNamespace(class_names=KNOWN), logits=3) == Classes(KNOWN, 3)
    assert classes_of(None, logits=3) == Classes(None, None)
    assert classes_of(None, logits=0) == Classes(None, 1)


@pytest.mark.parametrize(
    ("head", "said"),
    [(37, r"is for 37 classes: pass --model\.num_classes 37"), (None, "is missing: train one first")],
)
def test_published_weights_are_evaluated_with_their_own_head(head, said):
    network = SimpleNamespace(head_classes=head)
    with pytest.raises(ConfigError, match=said):
        check_head(network, logits=1000, has_published_weights=True)
    check_head(network, logits=1000, has_published_weights=False)


@pytest.mark.parametrize("network", [SimpleNamespace(head_classes=10), SimpleNamespace(head_classes=-1), object()])
def test_a_head_that_fits_or_does_not_say_is_evaluated(network):
    check_head(network, logits=10, has_published_weights=True)


@pytest.mark.parametrize("in_order", [False, True])
def test_classes_called_by_their_numbers_are_not_taken_by_the_order_of_words_unsaid(in_order, recwarn):
    names = [str(number) for number in range(1000)]
    classes = Classes(names if in_order else sorted(names), 1000)
    assert logits_of_labels(classes, None, logits=1000, has_published_weights=True) is None
    assert ["pass --data.label_map numbers" in str(each.message) for each in recwarn] == [True] * (not in_order)


@pytest.mark.parametrize("odd", ["odd", "n99999999"])
def test_a_folder_that_is_none_of_imagenet_s_classes_is_named_beside_those_that_are(odd):
    classes = Classes(["n01440764", odd], 2)
    with pytest.raises(ConfigError, match=f"1 of the data's 2 classes are none of the 1000 .* trained on: .{odd}."):
        logits_of_labels(classes, None, logits=1000, has_published_weights=True)
