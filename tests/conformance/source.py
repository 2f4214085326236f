"""PostgreSQL's source as Debian serves it, built with its regression suite, kept in tests/.cache.

The archive may serve the source of another minor version than the installed binaries; then a few
files differ even direct. So node, psql and files are all built from one source, whatever is
installed. Nothing outside tests/.cache is touched.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

import archive

CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache"

# What the suite needs beside the node: the C functions of its tests.
EXTRAS = ["contrib/spi", "src/test/regress"]

# Nothing that needs a library: the suite has expectations for a build without each of them.
OPTIONS = ["--without-icu", "--without-readline", "--without-zlib"]


class Built:
    """A built PostgreSQL: where its parts are in the cache."""

    def __init__(self, folder):
        self.version = folder.name.removeprefix("postgres-")
        self.install = folder / "install"
        self.core = folder / "core"
        self.plpgsql = folder / "plpgsql"


def run(command, **options):
    """Runs a command quietly and shows its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def installed():
    """The version of the installed PostgreSQL, such as 15.20."""
    folders = pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(folders, key=lambda path: int(path.parent.parent.name))
    return run([newest, "--version"]).split()[2]


def built():
    """The newest source of the installed major version that the archive serves, built."""
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "postgres.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        version = installed()
        major = version.split(".")[0]
        kept = sorted(CACHE.glob(f"postgres-{major}.*/core/pg_regress"))
        if not kept:
            kept = [build(fetch(major)) / "core/pg_regress"]
        found = Built(kept[-1].parent.parent)
    print(f"PostgreSQL {found.version} from source (installed: {version})")
    return found


def fetch(major):
    """Downloads the newest source that is really there; the path of the tar file."""
    print("fetching the source of PostgreSQL", major)
    return archive.download(f"postgresql-{major}", CACHE / "apt",
                            lambda version: version.split(".")[0] == major)


def build(tar):
    """Unpacks, builds and keeps what a run needs; the folder in the cache."""
    version = re.search(r"_([\d.]+)\.orig", tar.name)[1]
    work = CACHE / "postgres-build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    print("building PostgreSQL", version, "(once, some minutes)")
    run(["tar", "xf", tar, "-C", work, "--strip-components=1"])
    run(["./configure", "--prefix=/usr/local/pgsql", *OPTIONS, "CFLAGS=-O1 -w"], cwd=work)
    jobs = f"-j{os.cpu_count()}"
    half = CACHE / "postgres-half"
    shutil.rmtree(half, ignore_errors=True)
    for part in ["src", *EXTRAS]:
        run(["make", "-s", jobs, "-C", part], cwd=work)
    for part in ["src", "contrib/spi"]:
        run(["make", "-s", "-C", part, "install", f"DESTDIR={half}/root"], cwd=work)
    os.rename(half / "root/usr/local/pgsql", half / "install")
    shutil.rmtree(half / "root")
    shutil.copytree(work / "src/test/regress", half / "core")
    shutil.copytree(work / "src/pl/plpgsql/src", half / "plpgsql")
    kept = CACHE / f"postgres-{version}"
    shutil.rmtree(kept, ignore_errors=True)
    # Renamed last, so that an interrupted build is never taken for a whole one.
    os.rename(half, kept)
    shutil.rmtree(work)
    return kept
