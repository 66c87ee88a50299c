"""The markers of a JPEG that Pillow wrote."""

import io

import pytest
from PIL import Image

from poolformer.data.pixels.jpeg_segments import EOI, FRAMES, HUFFMAN, SCAN, segments, tidied, unsampled


@pytest.fixture(params=[False, True], ids=["sequential", "progressive"])
def jpeg(request) -> bytes:
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize((40, 24)).convert("RGB")
    image.save(file, "JPEG", progressive=request.param, subsampling="4:2:0", comment=b"of no account")
    return file.getvalue()


def test_segments_lie_one_behind_another_up_to_the_end(jpeg):
    found = list(segments(jpeg + b"behind"))
    assert [part.start for part in found[1:]] == [part.end for part in found[:-1]]
    assert (found[0].start, found[-1].marker, found[-1].end) == (0, EOI, len(jpeg))
    assert {SCAN, HUFFMAN} < {part.marker for part in found}
    assert len([part for part in found if part.marker in FRAMES]) == 1


def test_a_tidied_file_has_the_same_pixels_without_what_only_describes_it(jpeg):
    tidy = tidied(jpeg)
    assert b"of no account" not in tidy
    assert Image.open(io.BytesIO(tidy)).tobytes() == Image.open(io.BytesIO(jpeg)).tobytes()


def test_an_unsampled_header_has_colour_for_each_pixel(jpeg):
    with Image.open(io.BytesIO(unsampled(jpeg))) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
