"""Freed memory is kept for the next step."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from poolformer.run.host_memory import keep_freed
if {keep}:
    keep_freed()
def step():
    torch.ones(2**24), torch.ones(2**22)  # 64 and 16 MB
for _ in range(10):  # until each piece has found its place
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_a_step_takes_no_new_pages_from_the_system():
    """A fresh piece of memory costs a page fault every 4 KiB, or 2 MiB where pages are huge."""
    with_and_without = [
        int(subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep)])) for keep in (True, False)
    ]
    assert with_and_without[0] < with_and_without[1] / 10
