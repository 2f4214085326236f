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

CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache"

# What the suite needs beside the node: the C functions of its tests.
EXTRAS = ["contrib/spi", "src/test/regress"]

# Nothing that needs a library: the suite has expectations for a build without each of them.
OPTIONS = ["--without-icu", "--without-readline", "--without-zlib"]


class Unavailable(Exception):
    """The source can be had neither from the cache nor from the archive."""


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
    folder = CACHE / "apt"
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(sources())
    options = [
        f"Dir::Etc::SourceList={folder}/sources.list", "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={folder}/lists", f"Dir::Cache={folder}", "APT::Sandbox::User=",
    ]
    options = [word for option in options for word in ("-o", option)]
    print("fetching the source of PostgreSQL", major)
    updated = subprocess.run(["apt-get", *options, "-qq", "update"], capture_output=True, text=True)
    if updated.returncode != 0:
        raise Unavailable(f"the package archive cannot be read:\n{updated.stderr[-2000:]}")
    package = f"postgresql-{major}"
    listed = run(["apt-cache", *options, "showsrc", package])
    versions = re.findall(r"^Version: (\S+)$", listed, re.MULTILINE)
    # The list may be ahead of the files.
    for version in sorted(set(versions), key=sort_key, reverse=True):
        command = ["apt-get", *options, "-qq", "source", "--download-only", f"{package}={version}"]
        if subprocess.run(command, cwd=folder, capture_output=True).returncode == 0:
            number = version.split("-")[0]
            return next(folder.glob(f"{package}_{number}.orig.tar.*"))
    raise Unavailable(f"no source of {package} can be downloaded; listed are {versions}")


def sources():
    """The machine's own package archives, as archives of sources."""
    lines = []
    for path in pathlib.Path("/etc/apt").glob("sources.list.d/*.sources"):
        for block in re.split(r"\n\s*\n", path.read_text()):
            if "bookworm" in block or "debian" in block:
                fields = dict(re.findall(r"^(\S+):\s*(.+)$", block, re.MULTILINE))
                signed = f"[signed-by={fields['Signed-By']}] " if "Signed-By" in fields else ""
                for suite in fields.get("Suites", "").split():
                    components = fields.get("Components", "")
                    lines.append(f"deb-src {signed}{fields['URIs']} {suite} {components}")
    plain = pathlib.Path("/etc/apt/sources.list")
    for line in plain.read_text().splitlines() if plain.exists() else []:
        if line.startswith("deb "):
            lines.append("deb-src" + line[3:])
    return "\n".join(lines) + "\n"


def sort_key(version):
    """Versions as numbers, so that 15.9 comes before 15.18."""
    return [int(number) for number in re.findall(r"\d+", version)]


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
