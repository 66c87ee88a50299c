"""The numbers of TensorBoard's files, against its own writers."""

import numpy as np
import pytest
from logged import write_events
from torch.utils.tensorboard import SummaryWriter

from poolformer.errors import DataError
from poolformer.run.scalars import scalars


def test_what_a_writer_has_logged_is_read_beside_images_and_texts(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_image("sample", np.zeros((3, 64, 64), dtype=np.uint8), 1)
        writer.add_text("note", "words", 1)
        for step in (3, 1):
            writer.add_scalar("val/top1", step / 10, step)
        writer.add_scalar("other", 5, 7, new_style=True)
    found = scalars(tmp_path)
    assert found == {"val/top1": {1: pytest.approx(0.1), 3: pytest.approx(0.3)}, "other": {7: 5.0}}
    assert list(found["val/top1"]) == [1, 3]


def test_of_a_step_that_was_done_twice_the_later_file_has_the_value(tmp_path):
    write_events(tmp_path / "events.out.tfevents.2.host", {"loss": {2: 0.25, 3: 0.125}})
    write_events(tmp_path / "events.out.tfevents.1.host", {"loss": {1: 1.0, 2: 0.5}})
    assert scalars(tmp_path) == {"loss": {1: 1.0, 2: 0.25, 3: 0.125}}


def test_a_file_that_is_still_written_is_read_as_far_as_it_goes(tmp_path):
    file = write_events(tmp_path / "events.out.tfevents.1.host", {"loss": {1: 1.0, 2: 0.5}})
    file.write_bytes(file.read_bytes()[:-3])
    assert scalars(tmp_path) == {"loss": {1: 1.0}}
    assert scalars(tmp_path / "nothing") == {}


def test_a_file_of_something_else_is_named(tmp_path):
    file = tmp_path / "events.out.tfevents.1.host"
    file.write_bytes((4).to_bytes(8, "little") + b"\xff" * 12)
    with pytest.raises(DataError, match=f"'{file}' cannot be read: it is damaged, or no file of TensorBoard's"):
        scalars(tmp_path)
