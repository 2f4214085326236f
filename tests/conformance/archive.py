"""Sources from the machine's own package archive, fetched by apt with settings of its own.

The machine's lists and sources stay as they are: nothing outside the given folder is touched.
"""

import pathlib
import re
import subprocess


class Unavailable(Exception):
    """A source can be had neither from the cache nor from the archive."""


def download(package, folder, wanted):
    """Downloads a package's newest source whose version is wanted; the path of the tar file.

    `wanted` is asked with the version of the authors, such as 15.9, without Debian's additions.
    """
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(sources())
    options = [
        f"Dir::Etc::SourceList={folder}/sources.list", "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={folder}/lists", f"Dir::Cache={folder}", "APT::Sandbox::User=",
    ]
    options = [word for option in options for word in ("-o", option)]
    updated = run(["apt-get", *options, "-qq", "update"])
    if updated.returncode != 0:
        raise Unavailable(f"the package archive cannot be read:\n{updated.stderr[-2000:]}")
    listed = run(["apt-cache", *options, "showsrc", package]).stdout
    versions = {version for version in re.findall(r"^Version: (\S+)$", listed, re.MULTILINE)
                if wanted(upstream(version))}
    # The list may be ahead of the files.
    for version in sorted(versions, key=sort_key, reverse=True):
        command = ["apt-get", *options, "-qq", "source", "--download-only", f"{package}={version}"]
        if run(command, cwd=folder).returncode == 0:
            return next(folder.glob(f"{package}_{upstream(version)}.orig.tar.*"))
    raise Unavailable(f"no source of {package} can be downloaded; listed are {sorted(versions)}")


def run(command, **options):
    """Runs a command of apt's."""
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          **options)


def upstream(version):
    """The authors' part of a Debian version: 7.0.15 of 5:7.0.15-1~deb12u7."""
    return version.split(":")[-1].rsplit("-", 1)[0]


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
