"""The processes of a run: PostgreSQL, the proxy or its peer, the neighbours.

Each is started on loopback on a port of its own and ended when its `with` block ends. As root,
PostgreSQL and everything else that touches its files runs as the user `postgres`.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Started with it, a command runs without privileges, as PostgreSQL demands, and ends with us.
UNPRIVILEGED = ["setpriv", "--pdeathsig", "KILL"]
if os.geteuid() == 0:
    UNPRIVILEGED += ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
UNPRIVILEGED += ["--"]


def free_port():
    """A loopback port below the range of outgoing connections that nobody listens on."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def wait_for_port(port, process, log):
    """Waits until somebody accepts on a port."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"not started:\n{pathlib.Path(log).read_text()}")


class Nothing:
    """Stands where no process is."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Node:
    """A PostgreSQL built from source, with the databases of the suite."""

    SETTINGS = {
        "fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "2",
        "listen_addresses": "127.0.0.1", "shared_buffers": "128MB", "max_connections": "60",
    }

    def __init__(self, built):
        self.built = built
        self.port = free_port()

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mf-conformance-"))
        shutil.copytree(self.built.install, self.folder / "install", symlinks=True)
        for part in ("core", "plpgsql"):
            shutil.copytree(getattr(self.built, part), self.folder / part)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres:postgres", self.folder], check=True)
        self.bin = self.folder / "install/bin"
        self.data = self.folder / "data"
        self.run([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust",
                  "--no-locale", "-E", "UTF8", "--no-sync"])
        options = [word for name, value in self.SETTINGS.items() for word in ("-c", f"{name}={value}")]
        options += ["-c", f"unix_socket_directories={self.folder}", "-p", str(self.port)]
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                [*UNPRIVILEGED, self.bin / "postgres", "-D", self.data, *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0)
        wait_for_port(self.port, self.process, self.folder / "log")
        for database in ("regression", "pl_regression"):
            self.create(database)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, database):
        """Makes a database as pg_regress would."""
        self.psql("postgres", f"create database {database} template template0")
        for name, value in (("lc_messages", "C"), ("lc_monetary", "C"), ("lc_numeric", "C"),
                            ("lc_time", "C"), ("bytea_output", "hex"),
                            ("timezone_abbreviations", "Default")):
            self.psql("postgres", f"alter database {database} set {name} to '{value}'")

    def psql(self, database, text):
        """Runs one statement, direct; its output."""
        deadline = time.monotonic() + 30
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port),
                   "-U", "postgres", "-d", database, "-c", text]
        while True:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout
            if "starting up" not in done.stderr or time.monotonic() > deadline:
                raise SystemExit(done.stderr)
            time.sleep(0.05)

    def run(self, command):
        """Runs a program of the installation to its end."""
        done = subprocess.run([*UNPRIVILEGED, *command], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise SystemExit(done.stdout + done.stderr)


class Child:
    """A process in front of the node, or beside it."""

    def __init__(self, command, port=None):
        self.port = port
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mf-conformance-"))
        self.command = command

    def __enter__(self):
        log = self.folder / "log"
        with open(log, "w") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output,
                                            stdin=subprocess.DEVNULL, process_group=0)
        if self.port:
            wait_for_port(self.port, self.process, log)
        return self

    def __exit__(self, *_):
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        output = (self.folder / "log").read_text(errors="replace")
        shutil.rmtree(self.folder, ignore_errors=True)
        if ended is not None:
            raise SystemExit(f"{self.command[0]} ended by itself ({ended}):\n{output[-4000:]}")


def proxy(arguments, node):
    """The proxy in front of the node: manifold, or its peer."""
    port = free_port()
    if arguments.peer:
        return bouncer(arguments, node, port)
    child = Child([program("manifold", "manifold", "MANIFOLD_BIN"), "serve", "--config"], port)
    file = child.folder / "manifold.toml"
    file.write_text(
        f'driver = "{arguments.driver}"\nshards = 1\n\n[[service]]\nname = "regression"\n'
        f'listen = ["127.0.0.1:{port}"]\nupstream = "postgres://127.0.0.1:{node.port}"\n'
        f"connections_max = {arguments.connections}\n")
    child.command.append(str(file))
    return child


def bouncer(arguments, node, port):
    """PgBouncer in front of the node. `PGBOUNCER_BIN` names another one."""
    binary = os.environ.get("PGBOUNCER_BIN") or shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    child = Child([*UNPRIVILEGED, binary], port)
    file = child.folder / "pgbouncer.ini"
    file.write_text(
        f"[databases]\n* = host=127.0.0.1 port={node.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {arguments.peer}\ndefault_pool_size = {arguments.connections}\n"
        "max_prepared_statements = 200\nmax_client_conn = 200\n"
        "ignore_startup_parameters = extra_float_digits,options\n")
    # PgBouncer's `auth_type = any` needs the user that it logs in as.
    text = file.read_text().replace(f"port={node.port}", f"port={node.port} user=postgres")
    file.write_text(text)
    for path in (child.folder, file):
        path.chmod(0o755)
    child.command.append(str(file))
    return child


def neighbours(port, database, count):
    """Neighbours on the same database and user that all the time change what a session can."""
    binary = program("manifold-tests", "neighbours", "NEIGHBOURS_BIN")
    return Child([binary, f"127.0.0.1:{port}", "postgres", database, str(count)])


def program(package, name, variable):
    """A program of the workspace, built in the release profile unless a variable names it."""
    if variable in os.environ:
        return os.environ[variable]
    command = ["cargo", "build", "--quiet", "--release", "-p", package, "--bin", name]
    subprocess.run(command, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    return str(pathlib.Path(target) / "release" / name)
