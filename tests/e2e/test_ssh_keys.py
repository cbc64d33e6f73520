"""SSH clients that log in with keys and certificates, runbooks, and what the trail says of how things ended."""
import glob, json, os, queue, re, signal, socket, subprocess, threading, time

import paramiko

from harness import check, eventually
from test_ssh import client, connect, hosted

KEYS = ["-oBatchMode=yes", "-oPreferredAuthentications=publickey", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"]


def keygen(path, *more):
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(path), *(more or ("-t", "ed25519"))], check=True)
    return path


def by_key(gateway, key, *argv, user="root@web-1", options=()):
    """OpenSSH with that key, and the certificate that lies beside it."""
    given = [f"Port={gateway.port}", f"User={user}", f"UserKnownHostsFile={gateway.known}", f"IdentityFile={key}", "LogLevel=ERROR"]
    return subprocess.run(["ssh", "-F", "none", *KEYS, *(f"-o{one}" for one in given), *options, "127.0.0.1", *argv], text=True, capture_output=True,
                          timeout=40, stdin=subprocess.DEVNULL)


def trail(gateway, kind):
    return json.loads(gateway.cli("audit", "search", "--kind", kind, "--limit", "1000", "--output", "json").stdout)


def reasons(gateway):
    return [json.dumps(row) for row in trail(gateway, "login_refused")]


def sign(gateway, key, *more, token=None):
    done = gateway.cli("ssh", "sign", "--key", f"{key}.pub", *more, token=token)
    check(done.returncode == 0 and done.stdout.strip() == f"{key}-cert.pub", done)
    return re.search(r"certificate ([0-9A-Za-z]{12}) ", done.stderr).group(1)


def test_a_certificate_logs_in_as_who_the_token_says_and_ends_with_it(w):
    with hosted(w) as (gateway, host):
        key = keygen(gateway.dir / "id_agent")
        check(by_key(gateway, key, "true").returncode == 255, "a key that nobody knows")
        identity = sign(gateway, key, token=gateway.agent)
        told = subprocess.run(["ssh-keygen", "-L", "-f", f"{key}-cert.pub"], text=True, capture_output=True).stdout
        check(f'Key ID: "{identity}"' in told and "bot" in told and "user certificate" in told, told)
        refused = len(reasons(gateway))
        done = by_key(gateway, key, "echo hello")
        check(done.returncode == 0 and done.stdout == "hello\n", done)
        check(len(reasons(gateway)) == refused, "that OpenSSH shows the key alone first is no refusal", reasons(gateway)[-1:])
        check("ID bot for rita@corp.test session=" in host.log(), "it acts for whom the token does")
        check(by_key(gateway, key, "id").returncode == 77, "and may what that may")
        os.rename(f"{key}-cert.pub", gateway.dir / "away")
        check(by_key(gateway, key, "true").returncode == 255, "its key alone is nobody's")
        eventually(lambda: len(reasons(gateway)) == refused + 1, "and where nothing follows it is one", 10)
        os.rename(gateway.dir / "away", f"{key}-cert.pub")
        rows = {row["id"]: row for row in json.loads(gateway.cli("token", "list", "--output", "json").stdout)}
        check(rows[identity]["proof"] == "certificate" and rows[identity]["subject"] == "bot", rows[identity])
        kept = gateway.dir / "data" / "ssh_login_ca"
        check(kept.read_bytes().startswith(b"gwe1:") and kept.stat().st_mode & 0o777 == 0o600)
        # With the token by which it was got it ends, also while something runs.
        running = subprocess.Popen(["ssh", "-F", "none", *KEYS, f"-oPort={gateway.port}", "-oUser=root@web-1", f"-oUserKnownHostsFile={gateway.known}",
                                    f"-oIdentityFile={key}", "127.0.0.1", "sleep 60"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        live = eventually(lambda: [row for row in json.loads(gateway.cli("sessions", "list", "--live", "--output", "json").stdout)], "it runs", 10)
        check(live[0]["principal"]["subject"] == "bot" if isinstance(live[0]["principal"], dict) else live[0]["principal"] == "bot", live)
        gateway.cli("token", "revoke", rows[identity]["parent"])
        check(running.wait(15) != 0, "it ends")
        check(by_key(gateway, key, "true").returncode == 255, "and opens nothing more")
        check(any("by which it was got has ended" in why for why in reasons(gateway)), reasons(gateway)[-3:])


def test_a_certificate_is_good_for_what_was_asked_and_a_revoked_one_for_nothing(w):
    with hosted(w) as (gateway, _):
        key = keygen(gateway.dir / "k")
        identity = sign(gateway, key, "--subject", "bot", "--kind", "agent", "--group", "agents", "--ttl", "1h")
        check(by_key(gateway, key, "true").returncode == 0, "as the operator named")
        gateway.cli("token", "revoke", identity)
        check(by_key(gateway, key, "true").returncode == 255, "revoked")
        sign(gateway, key, "--subject", "bot", "--group", "agents", "--resource", "web-2")
        check(by_key(gateway, key, "true").returncode == 255, "for another resource")
        sign(gateway, key, "--subject", "bot", "--group", "agents", "--ttl", "1s")
        time.sleep(2)
        check(by_key(gateway, key, "true").returncode == 255, "over")
        limited = gateway.cli("token", "create", "--subject", "bot", "--group", "agents", "--resource", "web-2").stdout.strip()
        done = gateway.cli("ssh", "sign", "--key", f"{key}.pub", "--resource", "web-1", token=limited)
        check(done.returncode == 1 and "not for `web-1`" in done.stderr, done)
        for wrong in (["--ttl", "25h"], ["--key", str(key)], ["--key", f"{key}-cert.pub"], ["--key", "/nowhere.pub"]):
            done = gateway.cli("ssh", "sign", "--key", f"{key}.pub", *wrong, token=gateway.agent) if wrong[0] == "--ttl" else \
                gateway.cli("ssh", "sign", *wrong, token=gateway.agent)
            check(done.returncode == 1 and done.stderr, wrong, done)
        text = " ".join(reasons(gateway))
        check("revoked" in text and "not for this resource" in text, text[-2000:])
        gateway.stop_only()
        # On a data directory on which no gateway runs.
        sign(gateway, key, "--subject", "bot", "--group", "agents")
        gateway.start()
        check(by_key(gateway, key, "true").returncode == 0, "it is good once one runs")


def test_hostile_certificates_log_nobody_in_and_look_alike(w):
    with hosted(w, sealed=False) as (gateway, _):
        key = keygen(gateway.dir / "k")
        identity = sign(gateway, key, "--subject", "bot", "--kind", "agent", "--group", "agents", "--ttl", "2h")
        ca, other = gateway.dir / "data" / "ssh_login_ca", keygen(gateway.dir / "other")
        forged = {
            "another CA": (other, ["-n", "bot"]),
            "the CA that targets trust": (gateway.dir / "data" / "ssh_user_ca", ["-n", "bot"]),
            "a host": (ca, ["-h", "-n", "bot"]),
            "another principal": (ca, ["-n", "olga@corp.test"]),
            "no principal": (ca, []),
            "over": (ca, ["-n", "bot", "-V", "-2h:-1h"]),
            "not yet": (ca, ["-n", "bot", "-V", "+1h:+2h"]),
            "an option that is not known": (ca, ["-n", "bot", "-O", "critical:limit-hours@corp.test"]),
            "a command that is forced": (ca, ["-n", "bot", "-O", "force-command=id"]),
            "another place": (ca, ["-n", "bot", "-O", "source-address=192.0.2.0/24"]),
            "a user who is verified": (ca, ["-n", "bot", "-O", "verify-required"]),
        }
        def forge(signer, arguments, name=identity):
            subprocess.run(["ssh-keygen", "-q", "-s", signer, "-I", name, *arguments, f"{key}.pub"], check=True)
            return by_key(gateway, key, "true")
        good = forge(ca, ["-n", "bot", "-O", "source-address=127.0.0.0/8"])
        check(good.returncode == 0, "the way to forge is right", good)
        told = set()
        for what, (signer, arguments) in forged.items():
            done = forge(signer, arguments)
            check(done.returncode == 255, what, done)
            told.add(done.stderr)
        done = forge(ca, ["-n", "bot"], "Unknown1aaaa")
        check(done.returncode == 255, "a row that is not there", done)
        told.add(done.stderr)
        second = keygen(gateway.dir / "second")
        sign(gateway, second, "--subject", "bot", "--group", "agents")
        subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", identity, "-n", "bot", f"{second}.pub"], check=True)
        done = by_key(gateway, second, "true")
        check(done.returncode == 255, "another key's row", done)
        told.add(done.stderr)
        check(len(told) == 1, "all are told the same", told)
        text = " ".join(reasons(gateway))
        for why in ("login CA", "somebody else", "names no principals", "critical option", "force-command", "source-address", "not valid now", "unknown"):
            check(why in text, why, text[-3000:])
        # What is permitted by policy and not by the certificate.
        subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", identity, "-n", "bot", "-O", "clear", f"{key}.pub"], check=True)
        check(by_key(gateway, key, "true").returncode == 0)
        done = by_key(gateway, key, options=["-W", "127.0.0.1:1"])
        check(done.returncode == 255 and "lacks" in json.dumps(trail(gateway, "operation")[-5:]), done)


def test_a_registered_key_is_its_subject_until_it_is_revoked(w):
    with hosted(w) as (gateway, _):
        for kind in (["-t", "ed25519"], ["-t", "ecdsa"], ["-t", "rsa", "-b", "2048"]):
            key = keygen(gateway.dir / f"id_{kind[1]}", *kind)
            made = gateway.cli("token", "create", "--subject", "bot", "--kind", "agent", "--group", "agents", "--ssh-key", f"{key}.pub")
            identity = made.stdout.strip()
            check(made.returncode == 0 and re.fullmatch("[0-9A-Za-z]{12}", identity) and "gwt_" not in made.stderr, made)
            check(by_key(gateway, key, "echo hello").stdout == "hello\n", kind)
            again = gateway.cli("token", "create", "--subject", "eve", "--ssh-key", f"{key}.pub")
            check(again.returncode == 1 and "is registered as" in again.stderr, again)
            gateway.cli("token", "revoke", identity)
            check(by_key(gateway, key, "true").returncode == 255, "revoked", kind)
        weak = keygen(gateway.dir / "weak", "-t", "rsa", "-b", "1024")
        done = gateway.cli("token", "create", "--subject", "bot", "--ssh-key", f"{weak}.pub")
        check(done.returncode == 1 and "2048" in done.stderr, done)
        done = gateway.cli("token", "create", "--subject", "bot", "--ssh-key", str(weak))
        check(done.returncode == 1 and "private key" in done.stderr, done)
        # SHA-1 proves nothing.
        rsa = gateway.dir / "id_rsa"
        gateway.cli("token", "create", "--subject", "bot", "--group", "agents", "--ssh-key", f"{rsa}.pub")
        done = by_key(gateway, rsa, "true", options=["-oPubkeyAcceptedAlgorithms=ssh-rsa"])
        check(done.returncode == 255, done)
        check(by_key(gateway, rsa, "true").returncode == 0)


def test_connect_makes_a_key_for_the_run_and_takes_it_away(w):
    with hosted(w) as (gateway, _):
        os.environ["XDG_RUNTIME_DIR"] = str(gateway.dir)
        try:
            done = connect(gateway, gateway.agent, "sh", "-c", "'exit 5'")
            check(done.returncode == 5, done)
            started = json.dumps(trail(gateway, "session_started")[-1])
            token = gateway.agent.split("_")[1]
            check(token not in started, "not the token's, but the certificate's", started)
            check(not glob.glob(str(gateway.dir / "gateway-*")), "nothing is left")
        finally:
            del os.environ["XDG_RUNTIME_DIR"]
        listed = json.loads(gateway.cli("token", "list", "--output", "json").stdout)
        check([row["parent"] for row in listed if row["proof"] == "certificate"] == [token], listed)


RUNBOOKS = """
[[resource.runbook]]
name = "note"
command = "echo noted {level}: {text}"
description = "writes a note"
parameters = [{ name = "text", type = "string", max = 20 }, { name = "level", type = "enum", values = ["info", "warn"] }]

[[resource.runbook]]
name = "touch"
command = "touch {file}"
parameters = [{ name = "file", type = "path", values = ["/@TREE@"] }]

[[resource.runbook]]
name = "hidden"
command = "id"
"""
RULES = """
@id("notes") permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1")
when { context.program == "runbook:note" && context has arg2 && context.arg2 == "warn" };
@id("touches") @approve("oncall") @wait("20s")
permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1") when { context.program == "runbook:touch" };
"""
MORE = """
@id("variables") @approve("oncall") permit (principal in Group::"agents", action == Action::"env", resource == Resource::"web-1");
@id("wherever") permit (principal in Group::"agents", action == Action::"forward", resource);
"""


def test_runbooks_are_listed_called_refused_and_held(w):
    with hosted(w, RUNBOOKS.replace("/@TREE@", "/tmp"), RULES) as (gateway, _):
        def call(line):
            done = client(gateway, gateway.agent, "ssh", "127.0.0.1", line)
            return done.wait(40), done.stdout.read(), done.stderr.read()
        status, text, _err = call("runbooks")
        check(status == 0 and "runbook:note text=<string> level=<enum(info,warn)>" in text and "hidden" not in text, text)
        status, text, _err = call("runbooks --json")
        books = {book["name"]: book for book in json.loads(text)}
        check(set(books) == {"runbook:note", "runbook:touch"} and books["runbook:touch"]["approval"] is True, books)
        status, text, err = call("runbook:note level=warn text='a; id $(id)'")
        check((status, text) == (0, "noted warn: a; id $(id)\n"), status, text, err)
        status, text, err = call("runbook:note level=info text=a")
        check(status == 77 and '"code":"denied"' in err and text == "", err)
        for wrong in ("runbook:note level=warn", "runbook:note level=bad text=a", "runbook:note level=warn text=-n", "runbook:none", "runbook:hidden x=1",
                      "runbook:note level=warn text=a; id", "'runbook:note' warn a", "true && runbook:note level=warn text=a"):
            status, text, err = call(wrong)
            check(status == 77 and '"code":"malformed"' in err and text == "", wrong, status, err)
        check(call("runbook:hidden")[0] == 77, "no policy permits it")
        held = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"runbook:touch file={gateway.tree}/made")
        opened = eventually(lambda: gateway.approvals(gateway.person), "an approval is open", 15)
        check(f"runbook:touch {gateway.tree}/made" in json.dumps(opened[0]), opened[0])
        gateway.cli("approvals", "approve", opened[0]["id"], token=gateway.person)
        check(held.wait(20) == 0 and (gateway.tree / "made").exists(), held.stderr.read())
        explained = gateway.cli("policy", "explain", "--as", "bot", "--group", "agents", "--resource", "web-1", "runbook:note level=warn text=a")
        check(explained.stdout.startswith("allow") and "notes" in explained.stdout, explained.stdout, explained.stderr)
        text = gateway.config.read_text()
        gateway.config.write_text(text.replace('type = "path"', 'type = "folder"'))
        done = gateway.cli("config", "check")
        check(done.returncode == 1 and "runbook `touch`: parameter `file`: there is no type `folder`" in done.stderr + done.stdout, done)


def test_the_trail_has_how_files_forwards_and_refused_requests_ended(w):
    with hosted(w, rules=MORE) as (gateway, _):
        source = gateway.dir / "source"
        source.write_bytes(b"x" * 12_345)
        for ways in ([str(source), f"127.0.0.1:{gateway.tree}/up"], [f"127.0.0.1:{gateway.tree}/up", str(gateway.dir / "down")]):
            copied = client(gateway, gateway.agent, "scp", "-O", *ways)
            check(copied.wait(40) == 0, copied.stderr.read())
        counted = [row.get("bytes") for row in trail(gateway, "operation")]
        check(counted.count(12_345) == 2, "each of the old scp's files has its bytes", counted)
        listener = socket.create_server(("127.0.0.1", 0))
        def swallow():
            peer, _ = listener.accept()
            while peer.recv(1 << 16):
                pass
            peer.close()
        threading.Thread(target=swallow, daemon=True).start()
        through = client(gateway, gateway.agent, "ssh", "-W", f"127.0.0.1:{listener.getsockname()[1]}", "127.0.0.1", stdin=subprocess.PIPE)
        through.stdin.write("y" * 54_321)
        through.stdin.close()
        through.wait(20)
        counted = eventually(lambda: [row for row in trail(gateway, "operation") if row.get("bytes") == 54_321], "what went up counts", 10)
        asked = client(gateway, gateway.agent, "ssh", "-oSetEnv=HELD=1", "127.0.0.1", "true")
        check(asked.wait(20) == 0, asked.stderr.read())
        held = [row for row in trail(gateway, "operation") if row["operation"] == "env HELD"]
        check(len(held) == 1 and "approval" in (held[0].get("error") or ""), "a variable that is held has an end in the trail", held)


def test_a_shell_is_told_that_the_gateway_stops_and_is_closed(w):
    with hosted(w, '[limits]\ndrain = "2s"\n') as (gateway, _):
        shell = client(gateway, gateway.person, "ssh", "-tt", "127.0.0.1", stdin=subprocess.PIPE)
        eventually(lambda: [row for row in trail(gateway, "operation") if row["operation"] == "shell"], "it runs", 10)
        time.sleep(1)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        status = shell.wait(15)
        told = shell.stderr.read() + shell.stdout.read()
        check(status == 77, "its status says that it was ended", status, told)
        gateway.process.wait(15)
        check(time.monotonic() - began < 8, "a shell at which nobody types holds nothing up", time.monotonic() - began)
        check("shutting down; this shell ends within 2 s" in told and '"code":"session_expired"' in told, told)
        gateway.start()
        check([row.get("error") for row in trail(gateway, "operation") if row["operation"] == "shell"] == ["gateway shutdown"])


class Wire:
    """SSH's authentication, message by message, as no client would send it."""

    def __init__(self, port):
        self.seen = queue.Queue()
        self._handler_table = {n: (lambda m, n=n: self.seen.put(n)) for n in (6, 51, 52, 53, 60)}
        self.transport = paramiko.Transport(("127.0.0.1", port))
        self.transport.start_client(timeout=10)
        self.transport.auth_handler = self
        self.send(5, "ssh-userauth")
        check(self.next() == 6, "the service")

    def abort(self):
        pass

    def is_authenticated(self):
        return False

    def send(self, kind, *parts):
        message = paramiko.Message()
        message.add_byte(bytes([kind]))
        for part in parts:
            {str: message.add_string, bool: message.add_boolean, int: message.add_int}[type(part)](part)
        self.transport._send_message(message)

    def next(self, seconds=4):
        try:
            return self.seen.get(timeout=seconds)
        except queue.Empty:
            return None


def test_ghsa_hpv4_what_was_asked_for_one_user_name_counts_for_no_other(w):
    with hosted(w) as (gateway, _):
        def asks(wire, user):
            wire.send(50, user, "ssh-connection", "keyboard-interactive", "", "")
            check(wire.next() == 60, "a question")
        fine = Wire(gateway.port)
        asks(fine, "root@web-1")
        fine.send(61, 1, gateway.agent)
        check(fine.next() == 52, "the way of asking is right")
        # Asked as one, answered as another who may not log in.
        wire = Wire(gateway.port)
        asks(wire, "root@web-1")
        asks(wire, "ops@web-1")
        wire.send(61, 1, gateway.agent)
        check(wire.next() == 51, "it is the other's answer")
        # Asked as one, tried otherwise as another: the question is void.
        wire = Wire(gateway.port)
        asks(wire, "root@web-1")
        wire.send(50, "ops@web-1", "ssh-connection", "password", False, "wrong")
        check(wire.next() == 51, "a wrong password")
        wire.send(61, 1, gateway.agent)
        check(wire.next() != 52, "nobody asked")
        wire = Wire(gateway.port)
        wire.send(61, 1, gateway.agent)
        check(wire.next(2) != 52, "nobody ever asked")
        check(len(trail(gateway, "session_started")) == 1, "one login")


def test_a_reason_that_connect_demands_comes_before_anything_runs(w):
    demand = '@id("why") @reason("required") permit (principal in Group::"agents", action == Action::"connect", resource);'
    with hosted(w, rules="\n" + demand) as (gateway, _):
        silent = client(gateway, gateway.agent, "ssh", "127.0.0.1", "true")
        told = silent.communicate(timeout=20)[1]
        check(silent.returncode == 77 and '"rule":"why"' in told and "GATEWAY_REASON" in told, told)
        said = client(gateway, gateway.agent, "ssh", "-oSetEnv=GATEWAY_REASON=INC-7", "127.0.0.1", "true")
        check(said.wait(20) == 0, said.stderr.read())
