"""Draws are a function of (seed, epoch, sample); SplitMix64 against its published first numbers."""

import itertools

import numpy as np
import pytest

from poolformer.data.pixels.keyed import below, mix, normal, shuffled, stream, uniform, uniforms, word


def test_the_words_are_those_of_splitmix64():
    # Of seed 0, by the reference implementation of Vigna (prng.di.unimi.it/splitmix64.c).
    golden, state, found = 0x9E3779B97F4A7C15, 0, []
    for _ in range(3):
        found.append(int(mix(np.uint64(state))))
        state = (state + golden) % 2**64
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_stream_is_its_place_and_no_other():
    places = itertools.product((0, -1), (0, 1), (0, 1))
    draws = {uniform(stream(word(seed), epoch, sample), 0, 1) for seed, epoch, sample in places}
    assert len(draws) == 8
    assert uniform(stream(word(5), 2, 3), 0, 1) == uniform(stream(word(5), 2, 3), 0, 1)


@pytest.mark.parametrize("seed", [0, -1, 2**64, 2**70 + 3])
def test_any_whole_number_is_a_seed(seed):
    assert word(seed) == np.uint64(seed % 2**64)


def test_numbers_have_the_distribution_that_they_are_drawn_from():
    state = stream(word(0), 0, 0)
    numbers = np.array([uniform(state, -2.0, 4.0) for _ in range(20_000)])
    assert (numbers.min() >= -2, numbers.max() < 4) == (True, True)
    assert numbers.mean() == pytest.approx(1, abs=0.05)
    counts = np.bincount([below(state, 3) for _ in range(30_000)], minlength=3)
    assert counts / 30_000 == pytest.approx([1 / 3] * 3, abs=0.02)
    gaussian = np.array([normal(state, 3.0, 2.0) for _ in range(20_000)])
    assert (gaussian.mean(), gaussian.std()) == pytest.approx((3, 2), abs=0.06)


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own():
    first, second = (shuffled(100, seed=3, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, shuffled(100, seed=3, epoch=0))


@pytest.mark.parametrize("count", [0, 1, 2, 4095, 4096, 20_000])
def test_the_order_of_an_epoch_is_that_of_a_word_of_each_sample(count):
    """As it was when numpy sorted them: a run resumes in the order in which it began."""
    start = mix(np.uint64(mix(word(-5))) ^ np.uint64(3))
    words = [mix(np.uint64(start) ^ np.uint64(mix(np.uint64(n)))) for n in range(count)]
    assert shuffled(count, seed=-5, epoch=3).tolist() == np.argsort(np.array(words, np.uint64), kind="stable").tolist()


def test_samples_draw_the_same_in_any_company():
    together = uniforms(np.array([4, 9]), 3, seed=1, epoch=2)
    np.testing.assert_array_equal(together[1], uniforms(np.array([9]), 3, seed=1, epoch=2)[0])
    assert ((together >= -1) & (together < 1)).all()
