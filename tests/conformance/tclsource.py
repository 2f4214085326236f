"""Redis's test suite, of the version of the installed redis-server, kept in the cache folder.

It comes from Debian's source package. What is kept is not changed and nothing runs in it: every
run gets a copy, whose `src` folder names the installed programs.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess

import archive

CACHE = pathlib.Path(os.environ.get("MANIFOLD_CACHE") or pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "manifold")

# The parts of the source that a run needs.
PARTS = ["runtest", "tests", "utils", "redis.conf"]

# The suite starts programs by these paths.
PROGRAMS = ["redis-server", "redis-cli", "redis-benchmark", "redis-check-rdb", "redis-check-aof"]

# How the suite empties the node at the beginning of each of its blocks.
PREPARATION = "    r flushall\n    r function flush\n"

# The same, not through the proxy.
PREPARATION_DIRECT = """
    set preparation [redis 127.0.0.1 {port} 0 0]
    $preparation flushall
    $preparation function flush
    $preparation close
"""


class Suite:
    """An unpacked suite."""

    def __init__(self, folder, build):
        self.folder = folder
        self.version = folder.name.removeprefix("redis-")
        # Tells apart builds of one version, of which one may pass what another fails.
        self.build = build

    def copy(self, target, direct_port=None):
        """A copy to run in; with a port, it prepares the node there and not through the proxy."""
        shutil.copytree(self.folder, target)
        (target / "src").mkdir()
        for name in PROGRAMS:
            found = shutil.which(name)
            if found:
                (target / "src" / name).symlink_to(found)
        if direct_port:
            file = target / "tests/support/server.tcl"
            text = file.read_text()
            assert PREPARATION in text, "the suite prepares a node in another way than known"
            prepared = PREPARATION_DIRECT.format(port=direct_port)
            file.write_text(text.replace(PREPARATION, prepared))

    def units(self):
        """The names of all units, in the suite's own order."""
        text = (self.folder / "tests/test_helper.tcl").read_text()
        return re.search(r"^set ::all_tests \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)[1].split()

    def knows(self, option):
        """Whether this version of the suite has an option."""
        return option in (self.folder / "tests/test_helper.tcl").read_text()


def suite():
    """The suite of the installed version."""
    for program in ("redis-server", "redis-cli", "tclsh"):
        if not shutil.which(program):
            raise archive.Unavailable(f"{program} is not installed; see tests/install test")
    text = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"v=(\S+)", text)[1]
    build = re.search(r"build=(\S+)", text)[1]
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"redis-{version}"
    with open(CACHE / "redis.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            unpack(version, kept)
    return Suite(kept, build)


def unpack(version, kept):
    """Fetches the source and keeps the parts of it that a run needs."""
    print("fetching the source of Redis", version)
    folder = CACHE / "redis-fetch"
    shutil.rmtree(folder, ignore_errors=True)
    tar = archive.download("redis", folder, lambda found: found == version)
    whole = folder / "whole"
    whole.mkdir()
    subprocess.run(["tar", "xf", tar, "-C", whole, "--strip-components=1"], check=True)
    half = folder / "half"
    half.mkdir()
    for part in PARTS:
        (whole / part).rename(half / part)
    (half / "tests/tmp").mkdir(exist_ok=True)
    # Renamed last, so that what was interrupted is never taken for a whole suite.
    half.rename(kept)
    shutil.rmtree(folder)
