"""Bounds of what may be taken to refuse a file."""

import resource
import time
from contextlib import contextmanager
from pathlib import Path

GIB = 2**30


@contextmanager
def little_memory_and_time():
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + GIB // 4, before[1]))
    began_s = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began_s < 5
