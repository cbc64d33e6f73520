"""SSH by the command line and OpenSSH's own clients, against a private sshd that trusts the gateway's user CA."""
import contextlib, json, os, pathlib, shutil, subprocess, sys, time

from harness import HERE, Skipped, check, eventually

sys.path.insert(0, str(HERE.parent / "cases"))
import common  # noqa: E402

POLICY = {"ssh": """
@id("connect") permit (principal, action == Action::"connect", resource == Resource::"web-1") when { context has login && context.login == "root" };
@id("look") permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1")
when { ["echo", "true", "sleep", "sh"].contains(context.program) && context.argc <= 2 };
@id("files") permit (principal in Group::"agents", action in [Action::"sftp-read", Action::"sftp-write"], resource in Path::"web-1/@TREE@");
@id("held") @approve("oncall") @wait("20s")
permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1") when { context.program == "touch" };
@id("shell") permit (principal in Group::"operators", action in [Action::"shell", Action::"exec"], resource == Resource::"web-1");
"""}


class Host:
    """An sshd on a port of its own."""

    def __init__(self, folder):
        self.folder, self.port = pathlib.Path(folder), common.free_port()
        self.sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
        if os.geteuid() != 0 or not self.sshd:
            raise Skipped("this needs root and an sshd")
        os.makedirs("/run/sshd", exist_ok=True)
        key = self.folder / "host"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {key}\nTrustedUserCAKeys {self.folder}/ca.pub\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nLogLevel VERBOSE\nPidFile none\n"
            f"Subsystem sftp internal-sftp\n")

    def start(self, ca):
        (self.folder / "ca.pub").write_text(ca)
        self.process = subprocess.Popen([self.sshd, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "sshd.log"])
        check(common.wait_port(self.port, 10, lambda: self.process.poll() is None), "sshd", self.log())

    def log(self):
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "sshd.log").read_text()
        return ""

    def stop(self):
        with contextlib.suppress(AttributeError):
            self.process.terminate()
            self.process.wait()


@contextlib.contextmanager
def hosted(w, more="", rules="", sealed=True):
    folder = w.scratch / f"ssh-{time.monotonic_ns()}"
    (folder / "tree").mkdir(parents=True)
    host = Host(folder)
    text = (f'[[resource]]\nname = "web-1"\nprotocol = "ssh"\naddress = "127.0.0.1:{host.port}"\nhost_key = "{host.key}"\n'
            'credential = { kind = "certificate", principals = ["root"], ttl = "5m" }\n')
    seal = folder / "seal.key"
    seal.write_text(w.cli("secrets", "key").stdout)
    sections = f'[secrets]\nkeys = [{{ file = "{seal}" }}]\nrequire = true\n' if sealed else ""
    text += more
    policy = {name: (rule + rules).replace("@TREE@", str(folder / "tree").lstrip("/")) for name, rule in POLICY.items()}
    gateway = common.Gateway(w.binary, "ssh", sections + text, policy)
    try:
        host.start(gateway.cli("ssh", "ca").stdout)
        gateway.start()
        gateway.agent = gateway.token("bot", "agent", ["agents"], "rita@corp.test")
        gateway.person = gateway.token("olga@corp.test", "human", ["operators", "oncall"])
        gateway.tree = folder / "tree"
        known = folder / "known_hosts"
        known.write_text(gateway.cli("ssh", "host-key").stdout)
        gateway.known = known
        yield gateway, host
    finally:
        gateway.stop()
        host.stop()


def connect(gateway, token, *argv, timeout=40):
    env = dict(os.environ, GATEWAY_URL=f"http://127.0.0.1:{gateway.control}", GATEWAY_TOKEN=token, HOME=str(gateway.dir))
    known = f"-oUserKnownHostsFile={gateway.known}"  # not the one of who runs this: ports come again, with other keys
    return subprocess.run([gateway.binary, "connect", "web-1", "--", known, *argv], env=env, text=True, capture_output=True, timeout=timeout,
                          stdin=subprocess.DEVNULL)


def client(gateway, token, program, *argv, **more):
    """OpenSSH's, with the token given by a program."""
    asks = gateway.dir / f"ask-{time.monotonic_ns()}"
    asks.write_text(f"#!/bin/sh\necho {token}\n")
    asks.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(asks), "SSH_ASKPASS_REQUIRE": "force"}
    options = [f"Port={gateway.port}", "User=root@web-1", f"UserKnownHostsFile={gateway.known}", "StrictHostKeyChecking=yes",
               "PreferredAuthentications=password", "LogLevel=ERROR"]
    return subprocess.Popen([program, *(f"-o{option}" for option in options), *argv], env=env, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, stdin=more.pop("stdin", subprocess.DEVNULL), **more)


def test_a_command_goes_with_a_certificate_that_names_who_asked(w):
    with hosted(w) as (gateway, host):
        listed = gateway.cli("resources", token=gateway.agent)
        check("web-1" in listed.stdout, "a policy on the login does not hide the resource", listed.stdout, listed.stderr)
        done = connect(gateway, gateway.agent, "echo", "'two  words'")
        check(done.returncode == 0 and done.stdout == "two  words\n", done)
        check("ID bot for rita@corp.test session=" in host.log() and "Accepted publickey for root" in host.log(), host.log()[-2000:])
        done = connect(gateway, gateway.agent, "echo $(id)")
        check(done.returncode == 77 and '"code":"denied"' in done.stderr and "uid" not in done.stdout, done)
        check(connect(gateway, gateway.agent, "sh", "-c", "'exit 5'").returncode == 5, "the command's own status")
        kept = gateway.dir / "data" / "ssh_user_ca"
        check(kept.read_bytes().startswith(b"gwe1:") and kept.stat().st_mode & 0o777 == 0o600)
        gateway.cli("secrets", "rotate")
        check(connect(gateway, gateway.agent, "echo again").stdout == "again\n")
        explained = gateway.cli("policy", "explain", "--as", "bot", "--group", "agents", "--resource", "web-1", "echo a && touch b")
        check(explained.stdout.startswith("hold"), explained.stdout)
        check(gateway.cli("audit", "verify").returncode == 0)


def test_connect_knows_the_gateway_by_what_the_control_address_tells(w):
    with hosted(w) as (gateway, host):
        env = dict(os.environ, GATEWAY_URL=f"http://127.0.0.1:{gateway.control}", GATEWAY_TOKEN=gateway.agent, HOME=str(gateway.dir))
        run = lambda *more: subprocess.run([gateway.binary, "connect", "web-1", "--", "-oLogLevel=INFO", *more, "echo", "hello"], env=env,
                                           text=True, capture_output=True, timeout=40, stdin=subprocess.DEVNULL)
        done = run()
        # It is not asked about, nor kept: nothing is believed at first sight.
        check(done.returncode == 0 and done.stdout == "hello\n" and "Permanently added" not in done.stderr, done)
        check(not list(pathlib.Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")).glob("gateway-*/known_hosts")))
        told = json.loads(subprocess.run([gateway.binary, "resources", "--output", "json"], env=env, text=True, capture_output=True).stdout)
        check(told[0]["server_keys"][0].split()[:2] == gateway.known.read_text().split()[1:3], told)
        # Somebody else on the way there, with another key, is not the gateway.
        relay = gateway.dir / "relay.py"
        relay.write_text("import os, select, socket, sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
                         "while True:\n    for fd in select.select([0, s], [], [])[0]:\n        data = os.read(0, 65536) if fd == 0 else s.recv(65536)\n"
                         "        if not data:\n            sys.exit()\n        s.sendall(data) if fd == 0 else os.write(1, data)\n")
        check(run(f"-oProxyCommand={sys.executable} {relay} {gateway.port}").stdout == "hello\n")
        done = run(f"-oProxyCommand={sys.executable} {relay} {host.port}")
        check(done.returncode == 255 and "verification failed" in done.stderr and not done.stdout, done)


CARRIERS = """
@id("carriers") permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1")
when { ["rsync", "git-upload-pack"].contains(context.program) };
"""


def test_a_printed_section_leads_scp_sftp_rsync_and_git_through_the_gateway(w):
    with hosted(w, rules=CARRIERS) as (gateway, host):
        home = gateway.dir / "home"
        (home / ".ssh").mkdir(parents=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "GIT_"))}
        env |= {"GATEWAY_URL": f"http://127.0.0.1:{gateway.control}", "GATEWAY_TOKEN": gateway.agent, "HOME": str(home)}
        run = lambda *argv, **more: subprocess.run([str(a) for a in argv], env={**env, **more}, text=True, capture_output=True, timeout=40,
                                                   stdin=subprocess.DEVNULL)
        printed = run(gateway.binary, "connect", "web-1", "--login", "root", "--print-config")
        check(printed.returncode == 0 and "User root@web-1" in printed.stdout and gateway.agent not in printed.stdout, printed)
        section = home / "section"
        section.write_text(printed.stdout + f"  IdentityFile {home}/.ssh/id_ed25519\n  BatchMode yes\n  IdentitiesOnly yes\n")
        ssh = ("ssh", "-F", section)
        check(run(*ssh, "web-1", "echo", "early").returncode == 255, "nothing proves yet who asks")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / ".ssh" / "id_ed25519")
        signed = run(gateway.binary, "ssh", "sign", "--resource", "web-1")
        check(signed.returncode == 0, signed)
        done = run(*ssh, "web-1", "echo", "hello")
        check(done.stdout == "hello\n" and not done.stderr, done)
        (home / "a").write_text("carried\n")
        for command in (("scp", "-F", section, home / "a", f"web-1:{gateway.tree}/scp"),
                        ("rsync", "-e", f"ssh -F {section}", home / "a", f"web-1:{gateway.tree}/rsync"),
                        ("sftp", "-F", section, f"web-1:{gateway.tree}/scp", home / "back")):
            done = run(*command)
            check(done.returncode == 0, command, done)
        check({(gateway.tree / name).read_text() for name in ("scp", "rsync")} == {(home / "back").read_text()} == {"carried\n"})
        run("git", "init", "-q", "--bare", gateway.tree / "app.git")
        done = run("git", "clone", "-q", f"web-1:{gateway.tree}/app.git", home / "app", GIT_SSH_COMMAND=f"ssh -F {section}")
        check(done.returncode == 0 and (home / "app" / ".git").is_dir(), done)
        # Who answers there with another key is not the gateway.
        section.write_text(section.read_text().replace(f"Port {gateway.port}", f"Port {host.port}"))
        done = run(*ssh, "web-1", "echo", "hello")
        check(done.returncode == 255 and "verification failed" in done.stderr, done)


def test_connect_says_where_what_is_behind_the_dashes_runs(w):
    with hosted(w) as (gateway, _):
        done = connect(gateway, gateway.agent, "scp", "a", "b")
        check(done.returncode == 77 and done.stderr.startswith("gateway: `scp` runs on `web-1`") and "--print-config" in done.stderr, done)
        done = connect(gateway, gateway.agent, "echo", "scp")
        check(done.stdout == "scp\n" and not done.stderr, done)
        # An option keeps its value.
        done = connect(gateway, gateway.agent, "-o", "LogLevel=ERROR", "-E", gateway.dir / "log", "echo", "hello")
        check(done.returncode == 0 and done.stdout == "hello\n", done)
        told = gateway.cli("connect", "web-1", "--print-config", "--reason", 'a "b"', token=gateway.agent)
        check(told.returncode == 1 and not told.stdout, told)
        check("runs on" in gateway.cli("connect", "--help").stdout)


def test_a_refused_subsystem_says_why_before_it_fails(w):
    with hosted(w) as (gateway, _):
        for options in ([], ["-tt"]):
            refused = client(gateway, gateway.agent, "ssh", *options, "-s", "127.0.0.1", "netconf")
            out, err = refused.communicate(timeout=30)
            lines = err.splitlines()
            check(refused.returncode == 255 and not out and "denied" in lines[0], options, err)
            check(json.loads(lines[1])["code"] == "denied" and lines[-1].startswith("subsystem request failed"), options, err)


def test_a_held_command_runs_once_another_person_has_decided(w):
    with hosted(w) as (gateway, _):
        mark = gateway.tree / "mark"
        held = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"touch {mark}")
        opened = eventually(lambda: gateway.approvals(gateway.person), "an approval is open", 15)
        check(not mark.exists() and held.poll() is None)
        done = gateway.cli("approvals", "approve", opened[0]["id"], token=gateway.agent)
        check(done.returncode == 1, "not by who asks", done)
        gateway.cli("approvals", "approve", opened[0]["id"], token=gateway.person)
        check(held.wait(20) == 0 and mark.exists(), held.stderr.read())


def test_files_go_both_ways_and_a_killed_session_ends_at_once(w):
    with hosted(w) as (gateway, _):
        source = gateway.dir / "big"
        source.write_bytes(os.urandom(8 << 20))
        for options in ([], ["-O"]):
            up = client(gateway, gateway.agent, "scp", *options, str(source), f"127.0.0.1:{gateway.tree}/up")
            check(up.wait(40) == 0, options, up.stderr.read())
            back = gateway.dir / "back"
            down = client(gateway, gateway.agent, "scp", *options, f"127.0.0.1:{gateway.tree}/up", str(back))
            check(down.wait(40) == 0 and back.read_bytes() == source.read_bytes(), options, down.stderr.read())
            away = client(gateway, gateway.agent, "scp", *options, "127.0.0.1:/etc/shadow", str(back))
            status, told = away.wait(20), away.stderr.read()
            # OpenSSH's scp says "No such file" of what it may not even look at.
            check(status != 0 and ("denied" in told or "No such file" in told) and back.read_bytes() == source.read_bytes(), options, status, told)
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", "sleep 60")
        rows = eventually(lambda: [row for row in json.loads(gateway.cli("sessions", "list", "--output", "json").stdout)
                                   if not row.get("ended")], "it is listed", 10)
        time.sleep(0.5)
        began = time.monotonic()
        gateway.cli("sessions", "kill", rows[0]["id"])
        running.wait(10)
        check(time.monotonic() - began < 4, "it ends within seconds", time.monotonic() - began)
