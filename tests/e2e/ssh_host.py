"""A place for tests of SSH's many clients: two private sshds, one gateway in front of the first, and settings for clients.

The first sshd has namespaces of its own, where `/etc/passwd` is the test's: logins with uid 0, a scratch home and the shells bash,
dash and zsh. Its files are the machine's, its processes end with it. Tests share the place; one that breaks it makes its own.
"""
import atexit, contextlib, os, pathlib, shutil, signal, socket, subprocess, sys, threading, time

from harness import HERE, Skipped, check

sys.path.insert(0, str(HERE.parent / "cases"))
import common  # noqa: E402

# Of most settings sshd takes the first that it reads, of MaxStartups the last.
SSHD_CONFIG = """
MaxStartups 300
{more}
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
TrustedUserCAKeys {folder}/ca.pub
AuthorizedKeysFile {folder}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin yes
AllowAgentForwarding yes
X11Forwarding yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
StreamLocalBindUnlink yes
AcceptEnv LANG LC_*
MaxSessions 100
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
PidFile none
Subsystem sftp internal-sftp
"""
LOGINS = {"root": "/bin/bash", "root-dash": "/usr/bin/dash", "root-zsh": "/usr/bin/zsh"}
# What `worker` may; `narrow` may say something, and nothing else.
POLICY = {"ssh": """
@id("connect") permit (principal, action == Action::"connect", resource);
@id("say") permit (principal in Group::"narrow", action == Action::"exec", resource) when { ["echo", "printenv"].contains(context.program) };
@id("work") permit (principal in Group::"workers",
    action in [Action::"exec", Action::"shell", Action::"remote-forward", Action::"agent-forward", Action::"x11"], resource);
@id("opaque") permit (principal in Group::"workers", action == Action::"exec-opaque", resource)
when { !(context.command like "subsystem:*") };
@id("files") permit (principal in Group::"workers", action in [Action::"sftp-read", Action::"sftp-write"],
    resource in Path::"web-1/@TREE@");
@id("socket") permit (principal in Group::"workers", action == Action::"forward", resource == Endpoint::"web-1/unix:@SOCKET@");
@id("locale") permit (principal in Group::"workers", action == Action::"env", resource) when { context.name == "LC_ALL" };
@ENDPOINTS@
"""}
ENDPOINT = """
@id("endpoint-{n}") permit (principal in Group::"workers", action == Action::"forward", resource == Endpoint::"web-1/{host}:{port}");
"""


def keygen(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return " ".join(pathlib.Path(f"{path}.pub").read_text().split()[:2])


class Sshd:
    """An sshd on a port of its own; `more` goes before its other settings. What it starts ends with it."""

    def __init__(self, folder, more=""):
        self.folder, self.port, self.process = pathlib.Path(folder), common.free_port(), None
        self.sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
        if os.geteuid() != 0 or not self.sshd:
            raise Skipped("this needs root and an sshd")
        self.folder.mkdir(parents=True)
        self.home = self.folder / "home"
        self.home.mkdir()
        self.key = keygen(self.folder / "host")
        keygen(self.folder / "user")
        shutil.copy(self.folder / "user.pub", self.folder / "authorized")
        (self.folder / "ca.pub").write_text("")
        others = [line for line in pathlib.Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
        mine = [f"{login}:*:0:0::{self.home}:{shell}" for login, shell in LOGINS.items()]
        (self.folder / "passwd").write_text("\n".join(mine + others) + "\n")
        (self.folder / "sshd_config").write_text(SSHD_CONFIG.format(port=self.port, folder=self.folder, more=more))

    def start(self):
        os.makedirs("/run/sshd", exist_ok=True)
        script = (f"mount --bind {self.folder}/passwd /etc/passwd && exec {self.sshd} -D -f {self.folder}/sshd_config "
                  f"-E {self.folder}/sshd.log")
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child",
                                         "--mount-proc", "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(common.wait_port(self.port, 15, lambda: self.process.poll() is None), "sshd", self.log())
        return self

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "sshd.log").read_text()
        return ""

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Services:
    """What forwards aim at, on TCP and on Unix sockets: says `ready` first, then answers with what it gets. Policy permits
    `port` and `path`, and says nothing of `other` and `other_path`."""

    def __init__(self, folder):
        self.path, self.other_path = folder / "service.sock", folder / "other.sock"
        unix, other_unix, tcp, other = (socket.socket(family) for family in (socket.AF_UNIX, socket.AF_UNIX, socket.AF_INET, socket.AF_INET))
        unix.bind(str(self.path))
        other_unix.bind(str(self.other_path))
        for listener in (tcp, other):
            listener.bind(("127.0.0.1", 0))
        self.port, self.other = tcp.getsockname()[1], other.getsockname()[1]
        for listener in (unix, other_unix, tcp, other):
            listener.listen(64)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        with contextlib.suppress(OSError), peer:
            peer.sendall(b"ready\n")
            while data := peer.recv(1 << 16):
                peer.sendall(data)
            # Says so only once the other side has ended what it sends.
            peer.sendall(b"end\n")


class Place:
    """Both sshds, the gateway and the services; `config` is for OpenSSH's clients."""

    def __init__(self, w, limits="", more="", sshd=""):
        self.folder = w.scratch / f"ssh-{time.monotonic_ns()}"
        self.tree = self.folder / "tree"
        self.tree.mkdir(parents=True)
        self.host, self.second = Sshd(self.folder / "first", sshd), Sshd(self.folder / "second")
        self.services = Services(self.folder)
        self.gateway = common.Gateway(w.binary, "ssh", limits + self._resources() + more, self._policy(), w.keep)
        self.tokens, self.target = {}, self.host.port

    def _resources(self, port=None):
        port = port or self.host.port
        names = {"web-1": ("root", "bash"), "web-dash": ("root-dash", "dash"), "web-zsh": ("root-zsh", "zsh")}
        return "\n".join(
            f'[[resource]]\nname = "{name}"\nprotocol = "ssh"\naddress = "127.0.0.1:{port}"\nhost_key = "{self.host.key}"\n'
            f'shell = "{shell}"\ncredential = {{ kind = "certificate", principals = ["{login}"], ttl = "5m" }}\n'
            for name, (login, shell) in names.items())

    def _policy(self):
        ends = [("127.0.0.1", self.services.port), ("127.0.0.1", self.second.port), ("localhost", self.services.port)]
        endpoints = "".join(ENDPOINT.format(n=n, host=host, port=port) for n, (host, port) in enumerate(ends))
        fill = lambda text: (text.replace("@TREE@", str(self.tree).lstrip("/")).replace("@ENDPOINTS@", endpoints)
                             .replace("@SOCKET@", str(self.services.path)))
        return {name: fill(text) for name, text in POLICY.items()}

    def through(self, port):
        """The resources are reached by way of that port, before the gateway is started."""
        config = self.gateway.config
        config.write_text(config.read_text().replace(f":{self.host.port}\"", f":{port}\""))

    def start(self):
        (self.host.folder / "ca.pub").write_text(self.gateway.cli("ssh", "ca").stdout)
        self.host.start()
        self.second.start()
        self.gateway.start()
        self.tokens = {"worker": self.gateway.token("worker@corp.test", "human", ["workers"]),
                       "narrow": self.gateway.token("bot", "agent", ["narrow"], "rita@corp.test")}
        known = self.folder / "known_hosts"
        lines = self.gateway.cli("ssh", "host-key").stdout
        for sshd in (self.host, self.second):
            lines += f"[127.0.0.1]:{sshd.port} {sshd.key}\n"
        known.write_text(lines)
        ask = self.folder / "askpass"
        ask.write_text('#!/bin/sh\nprintf "%s\\n" "$CASE_TOKEN"\n')
        ask.chmod(0o755)
        self.config = self.folder / "ssh_config"
        self.write_config(self.config)
        return self

    def write_config(self, path, port=None, more=""):
        """`gw` and its like lead through the gateway (by way of `port`), `second` through it to the second sshd, `direct` past it."""
        common_lines = (f"HostName 127.0.0.1\n  UserKnownHostsFile {self.folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
                        f"  StrictHostKeyChecking yes\n  LogLevel ERROR\n  IdentitiesOnly yes\n  ConnectTimeout 20\n  {more}\n")
        token = "PubkeyAuthentication no\n  PreferredAuthentications password\n  NumberOfPasswordPrompts 1\n"
        alias = f"HostKeyAlias [127.0.0.1]:{self.gateway.port}\n"
        text = ""
        for name, user in (("gw", "root@web-1"), ("gw-dash", "root-dash@web-dash"), ("gw-zsh", "root-zsh@web-zsh")):
            text += f"Host {name}\n  Port {port or self.gateway.port}\n  User {user}\n  {token}  {alias}  {common_lines}"
        for name, sshd, jump in (("direct", self.host, ""), ("second", self.second, "ProxyJump gw\n  ")):
            text += f"Host {name}\n  {jump}Port {sshd.port}\n  User root\n  IdentityFile {sshd.folder}/user\n  {common_lines}"
        path.write_text(text)

    def env(self, who="worker"):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "GATEWAY_", "LC_", "DISPLAY", "XAUTH"))}
        return {**clean, "SSH_ASKPASS": str(self.folder / "askpass"), "SSH_ASKPASS_REQUIRE": "force", "CASE_TOKEN": self.tokens[who],
                "HOME": str(self.folder)}

    def run(self, *argv, who="worker", stdin=None, timeout=40, text=True, env=None, cwd=None):
        """A client to its end."""
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run([str(a) for a in argv], env={**self.env(who), **(env or {})}, text=text, capture_output=True,
                              timeout=timeout, cwd=cwd, **given)

    def ssh(self, *argv, to="gw", **more):
        """`ssh ARGV... gw` where the last of ARGV is the command, if it does not begin with a dash."""
        options, command = (argv, ()) if not argv or argv[-1] is None else (argv[:-1], argv[-1:])
        return self.run("ssh", "-F", self.config, *options, to, *command, **more)

    @contextlib.contextmanager
    def running(self, *argv, who="worker", env=None, **more):
        """A client that runs meanwhile."""
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([str(a) for a in argv], env={**self.env(who), **(env or {})}, start_new_session=True, **more)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def memory(self):
        """Resident memory of the gateway, in bytes."""
        status = pathlib.Path(f"/proc/{self.gateway.process.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def stop(self):
        self.gateway.stop()
        self.host.stop()
        self.second.stop()


def shared(w):
    """One place for the tests that leave it whole."""
    place = getattr(w, "ssh_place", None)
    if place is None:
        place = w.ssh_place = Place(w)
        atexit.register(place.stop)
        place.start()
    if not place.gateway.alive():
        place.gateway.start()
    return place


@contextlib.contextmanager
def own(w, **options):
    """A place of a test's own, not started."""
    place = Place(w, **options)
    try:
        yield place
    finally:
        place.stop()


class Relay:
    """Carries TCP both ways, each piece `delay` seconds late: a long path. `hold()` lets nothing more through from the server."""

    def __init__(self, port, delay=0.0):
        self.to, self.delay, self.open = port, delay, threading.Event()
        self.open.set()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to), 10)
            except OSError:
                return
            for a, b, back in ((near, far, False), (far, near, True)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                queue = _Queue()
                threading.Thread(target=self._read, args=(a, queue), daemon=True).start()
                threading.Thread(target=self._write, args=(b, queue, back), daemon=True).start()

    def _read(self, source, queue):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                queue.put((time.monotonic() + self.delay, data))
        queue.put((time.monotonic() + self.delay, b""))

    def _write(self, sink, queue, back):
        with contextlib.suppress(OSError):
            while True:
                due, data = queue.take()
                if back:
                    self.open.wait()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    def close(self):
        self.listener.close()


class _Queue:
    """Pieces on their way, at most 4 MiB."""

    def __init__(self):
        self.pieces, self.bytes, self.change = [], 0, threading.Condition()

    def put(self, piece):
        with self.change:
            self.change.wait_for(lambda: self.bytes < 4 << 20)
            self.pieces.append(piece)
            self.bytes += len(piece[1])
            self.change.notify_all()

    def take(self):
        with self.change:
            self.change.wait_for(lambda: self.pieces)
            piece = self.pieces.pop(0)
            self.bytes -= len(piece[1])
            self.change.notify_all()
            return piece
