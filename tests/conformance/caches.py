"""The processes of a run of Redis's suite: redis-server, and manifold or its peer before it.

Each unit of the suite has its own, so that nothing that one unit leaves behind, be it a hanging
client or a changed setting, reaches the next.
"""

import functools
import pathlib
import shutil
import subprocess
import tempfile

import nodes

# What the suite's authors demand of a node that is to be tested from without.
SETTINGS = ["--save", "", "--enable-debug-command", "yes", "--enable-module-command", "yes",
            "--enable-protected-configs", "yes"]

MANIFOLD = """driver = "{driver}"
shards = 1

[[service]]
name = "cache"
listen = ["127.0.0.1:{port}"]
upstream = "redis://127.0.0.1:{node}"
connections_max = 64
admin = "allow"
"""

NUTCRACKER = """cache:
  listen: 127.0.0.1:{port}
  redis: true
  servers:
    - 127.0.0.1:{node}:1
"""


class Process:
    """A process that listens on a loopback port of its own until its `with` block ends."""

    def __init__(self, folder):
        self.port = nodes.free_port()
        self.host = "127.0.0.1"
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.log = self.folder / "log"
        self.command = []

    def __enter__(self):
        with open(self.log, "w") as output:
            # It ends with us, however we end.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                                            stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                                            cwd=self.folder)
        nodes.wait_for_port(self.port, self.process, self.log)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ended(self):
        """What to say of a process that ended by itself, else nothing."""
        status = self.process.poll()
        if status is None:
            return ""
        name = pathlib.Path(self.command[0]).name
        return f"{name} ended by itself ({status}):\n{self.output()[-3000:]}"

    def output(self):
        """What it wrote."""
        return self.log.read_text(errors="replace")


class Elsewhere:
    """A proxy that somebody else started."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.host = host or "127.0.0.1"
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ended(self):
        """Nobody here would know."""
        return ""

    def output(self):
        """Its log is elsewhere too."""
        return ""


def node(folder):
    """A redis-server with nothing in it that writes nothing to disk by itself."""
    started = Process(folder)
    started.command = ["redis-server", "--bind", "127.0.0.1", "--port", str(started.port),
                       "--dir", str(started.folder), *SETTINGS]
    return started


@functools.cache
def build():
    """The path of manifold, built if no variable names it."""
    return nodes.program("manifold", "manifold", "MANIFOLD_BIN")


def proxy(arguments, folder, upstream):
    """The proxy in front of a node: manifold, its peer, or one that runs already."""
    if arguments.through:
        return Elsewhere(arguments.through)
    started = Process(folder)
    text = NUTCRACKER if arguments.peer else MANIFOLD
    file = started.folder / "configuration"
    file.write_text(text.format(driver=arguments.driver, port=started.port, node=upstream.port))
    if arguments.peer:
        binary = shutil.which("nutcracker") or "/usr/sbin/nutcracker"
        # A port for its statistics, which would else be the same for all that run.
        started.command = [binary, "-c", str(file), "-s", str(nodes.free_port())]
    else:
        started.command = [build(), "serve", "--config", str(file)]
    return started
