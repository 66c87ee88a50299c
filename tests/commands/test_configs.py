"""The listing of configurations."""

import re

from poolformer.configs import config_dir, config_names


def test_configs_lists_every_packaged_file_with_its_first_line(listing):
    code, out, _ = listing("configs")
    assert code == 0
    assert out.endswith(f"\n\nFiles: {config_dir()}\n")
    rows = out.rpartition("\n\n")[0]
    alone, *overlays = re.split(r"\n\nOver another, such as --config s12 --config (\w+)/...:\n", rows)
    groups = {"": alone, **dict(zip(overlays[::2], overlays[1::2], strict=True))}
    listed = []
    for folder, rows in groups.items():
        for row in rows.splitlines():
            name, headline = row.split(maxsplit=1)
            assert name.rpartition("/")[0] == folder
            assert headline
            listed.append(name)
    assert sorted(listed) == config_names()
