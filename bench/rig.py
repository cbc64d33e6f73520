"""Servers and ways to them: a private PostgreSQL, and what can stand between it and a client."""
import contextlib, glob, os, pathlib, pwd, re, shutil, socket, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "cases"))
from ports import free_port  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
PASSWORD = "bench-password"
POLICY = """
@id("bench") permit (principal, action in [Action::"connect", Action::"read", Action::"write"], resource in Resource::"bench");
"""


def wait_port(port, process, log, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"bench: nothing listens on {port}:\n{log.read_text()[-3000:]}")


def client_env(port, user, password):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_"))}
    return dict(clean, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER=user, PGPASSWORD=password, PGSSLMODE="disable",
                PGDATABASE="bench", LC_ALL="C")


def root():
    return os.geteuid() == 0


class Postgres:
    """A private server, filled by pgbench -i. Its own fsync is on, so that what a commit costs is the server's usual."""

    def __init__(self, folder, scale):
        self.dir, self.port, self.scale = folder / "pg", free_port(), scale
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2]))
        self.bin = pathlib.Path(os.environ.get("PG_BIN") or (found[-1] if found else "/usr/bin"))
        self.owner = "postgres" if root() else pwd.getpwuid(os.geteuid()).pw_name
        self.password = folder / "password"

    def own(self, *argv):
        prefix = ["runuser", "-u", self.owner, "--"] if root() else []
        subprocess.run([*prefix, *map(str, argv)], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def start(self):
        self.dir.mkdir()
        self.password.write_text(PASSWORD)
        if root():
            for path in (self.dir, self.password):
                shutil.chown(path, self.owner)
        data = self.dir / "data"
        self.own(self.bin / "initdb", "-D", data, "-U", "bench", "--pwfile", self.password, "-E", "UTF8", "--locale=C",
                 "-A", "scram-sha-256")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                       "max_connections = 1200\nautovacuum = off\nshared_buffers = 512MB\nmax_wal_size = 4GB\n"
                       "logging_collector = off\n")
        self.own(self.bin / "pg_ctl", "-D", data, "-l", self.dir / "server.log", "-w", "start")
        env = client_env(self.port, "bench", PASSWORD)
        for argv in (["createdb", "bench"], ["pgbench", "-i", "-q", "-s", str(self.scale), "bench"],
                     ["psql", "-qc", "CREATE UNLOGGED TABLE copied (LIKE pgbench_accounts)"],
                     ["psql", "-qc", "CREATE TABLE people AS SELECT n AS id, 'person.' || n || '@example.test' AS email, "
                      "'Person ' || n AS name, jsonb_build_object('mail', 'p' || n || '@example.test', 'n', n) AS doc "
                      f"FROM generate_series(1, {self.scale * 100_000}) n", "-c", "VACUUM ANALYZE people"]):
            subprocess.run(argv, env=env, check=True, capture_output=True)

    def stop(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.own(self.bin / "pg_ctl", "-D", self.dir / "data", "-m", "immediate", "-w", "stop")


class Way:
    """One way to the server; `process` is what stands in the middle, if anything does."""

    def __init__(self, name, port, user, password, process=None):
        self.name, self.process, self.port, self.user, self.password = name, process, port, user, password
        self.env = client_env(port, user, password)

    def cpu(self):
        """Seconds of processor time that the process in the middle has used."""
        if not self.process:
            return 0.0
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """Its resident memory in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def call(self, argv, **more):
        done = subprocess.run([str(a) for a in argv], env=self.env, text=True, capture_output=True, **more)
        if done.returncode:
            sys.exit(f"bench: {argv[0]} by way of {self.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout


def build():
    target = os.environ.get("CARGO_TARGET_DIR") or str(
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gateway-target")
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bins"], cwd=ROOT, check=True,
                   env=dict(os.environ, CARGO_TARGET_DIR=target))
    return pathlib.Path(target) / "release"


class Middle:
    """What stands between; all of it ends with the block."""

    def __init__(self, folder, target):
        self.folder, self.target, self.processes = folder, target, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name, argv, port, **more):
        log = self.folder / f"{name}.log"
        process = subprocess.Popen([str(a) for a in argv], stdout=open(log, "wb"), stderr=subprocess.STDOUT, **more)
        self.processes.append(process)
        wait_port(port, process, log)
        return process

    def forwarder(self, binary):
        port = free_port()
        process = self.start("forwarder", [binary, f"127.0.0.1:{port}", f"127.0.0.1:{self.target}"], port)
        return Way("forwarder", port, "bench", PASSWORD, process)

    def pgbouncer(self):
        """Session mode; clients are trusted, so that its login costs the least that it can."""
        binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not os.path.exists(binary):
            return None
        port, folder = free_port(), self.folder / "pgbouncer"
        folder.mkdir()
        (folder / "users").write_text(f'"bench" "{PASSWORD}"\n')
        config = folder / "pgbouncer.ini"
        config.write_text(f"[databases]\nbench = host=127.0.0.1 port={self.target} dbname=bench\n[pgbouncer]\n"
                          f"listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\nauth_file = {folder}/users\n"
                          "pool_mode = session\nmax_client_conn = 1200\ndefault_pool_size = 1100\nunix_socket_dir =\n"
                          "ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n")
        argv = [binary, config]
        if root():
            for path in (folder, config, folder / "users"):
                shutil.chown(path, "postgres")
            # Not runuser: its process would be measured.
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        process = self.start("pgbouncer", argv, port)
        return Way("pgbouncer", port, "bench", PASSWORD, process)

    def gateway(self, binary, name="gateway", audit="", tags="", policy=POLICY, credential=None):
        """`credential`: another than the static login of all sessions."""
        credential = credential or '{ kind = "static", username = "bench", password = { file = "target-password" } }'
        folder = self.folder / name
        (folder / "policies").mkdir(parents=True)
        (folder / "policies" / "bench.cedar").write_text(policy)
        (folder / "target-password").write_text(PASSWORD)
        port, config = free_port(), folder / "gateway.toml"
        config.write_text(f"""
data_dir = "data"
[listen]
postgres = "127.0.0.1:{port}"
[policy]
dir = "policies"
{audit}
[[resource]]
name = "bench"
protocol = "postgres"
address = "127.0.0.1:{self.target}"
tls = "disable"
credential = {credential}
{tags}""")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
        process = self.start(name, [binary, "serve", "--config", config], port, env=clean)
        return Way(name, port, "alice@bench", self.token(binary, "alice", name), process)

    def token(self, binary, subject, name="gateway"):
        made = subprocess.run([binary, "token", "create", "--subject", subject, "--ttl", "24h",
                               "--config", self.folder / name / "gateway.toml"], text=True, capture_output=True,
                              env={k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")})
        if made.returncode:
            sys.exit(f"bench: no token: {made.stdout}{made.stderr}")
        return made.stdout.strip()
