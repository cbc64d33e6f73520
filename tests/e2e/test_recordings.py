"""Recordings of SSH sessions: what was shown is played back, and nobody touches it unseen."""
import contextlib, hashlib, json, os, pty, re, select, shutil, signal, subprocess, threading, time

from harness import Skipped, check, eventually
from test_ssh import client, connect, hosted

TAME = re.compile(rb"\x1b\[[0-9;]*[mKHJ]|\x1b\[\?25[hl]")


class Shell:
    """OpenSSH's client on a terminal of its own."""

    def __init__(self, gateway, token, *argv, rows=24, cols=80):
        asks = gateway.dir / f"ask-{time.monotonic_ns()}"
        asks.write_text(f"#!/bin/sh\necho {token}\n")
        asks.chmod(0o700)
        options = [f"Port={gateway.port}", "User=root@web-1", f"UserKnownHostsFile={gateway.known}", "StrictHostKeyChecking=yes",
                   "PreferredAuthentications=password", "LogLevel=ERROR"]
        self.out, self.pid, self.status = b"", None, None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(SSH_ASKPASS=str(asks), SSH_ASKPASS_REQUIRE="force", TERM="xterm")
            os.execvp("ssh", ["ssh", "-tt", *(f"-o{option}" for option in options), "127.0.0.1", *argv])
        import fcntl, struct, termios
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def read(self, seconds=0.2):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    more = os.read(self.fd, 65536)
                except OSError:
                    return False
                if not more:
                    return False
                self.out += more
        return True

    def until(self, what, seconds=15):
        end = time.monotonic() + seconds
        while what not in self.out:
            check(self.read(0.1) or what in self.out, f"no {what!r}", self.out[-2000:])
            check(time.monotonic() < end, f"no {what!r} in time", self.out[-2000:])

    def type(self, text):
        """As a person does: each key once the one before was shown."""
        for key in text:
            os.write(self.fd, key.encode())
            self.read(0.06)

    def end(self, seconds=15):
        end = time.monotonic() + seconds
        while self.read(0.1):
            check(time.monotonic() < end, "it does not end", self.out[-2000:])
        _, self.status = os.waitpid(self.pid, 0)

    def drop(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def sessions(gateway, **want):
    rows = json.loads(gateway.cli("sessions", "list", "--output", "json").stdout)
    return [row for row in rows if all(bool(row.get(key)) == value for key, value in want.items())]


def last(gateway):
    """The newest session, once it has ended."""
    return eventually(lambda: (rows := sessions(gateway)) and rows[0].get("ended") and rows[0]["id"], "it has ended", 15)


def folder(gateway, session):
    return next((gateway.dir / "data" / "recordings").glob(f"*/{session}"))


def replay(gateway, session, *more, token=None):
    return gateway.cli("sessions", "replay", session, *more, token=token)


def on_a_terminal(gateway, *argv, seconds=20, columns=100):
    """What a command of the gateway's prints on a terminal."""
    import fcntl, struct, termios
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = dict(os.environ, GATEWAY_URL=f"http://127.0.0.1:{gateway.control}", TERM="xterm")
    env.pop("GATEWAY_TOKEN", None)
    process = subprocess.Popen([gateway.binary, *argv, "--config", str(gateway.config)], env=env, stdout=its, stderr=subprocess.PIPE, stdin=its)
    os.close(its)
    out, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                more = os.read(ours, 65536)
            except OSError:
                break
            if not more:
                break
            out += more
    process.kill() if process.poll() is None and time.monotonic() >= end else None
    process.wait()
    os.close(ours)
    return out, process.stderr.read().decode()


def test_a_command_is_played_back_as_it_was_shown(w):
    with hosted(w) as (gateway, _):
        done = connect(gateway, gateway.agent, "echo", "'one  two'")
        check(done.stdout == "one  two\n", done)
        session = last(gateway)
        played = replay(gateway, session)
        check(played.returncode == 0 and played.stdout == done.stdout, played)
        check("are those of the audit trail" in played.stderr, played.stderr)
        cast = replay(gateway, session, "--export", "-").stdout.splitlines()
        header = json.loads(cast[0])
        check(header["version"] == 3 and header["gateway"]["session"] == session and header["gateway"]["kind"] == "exec", header)
        check(json.loads(cast[-2])[1:] == ["x", "0"] and cast[-1].startswith("#verified "), cast)
        file = folder(gateway, session) / "1.cast"
        check(b"one" not in file.read_bytes() and file.stat().st_mode & 0o777 == 0o600, "it is sealed with the key, and its owner's alone")
        trail = gateway.cli("audit", "search", "--session", session, "--output", "json").stdout
        for kind in ("recording_started", "recording_sealed"):
            check(f'"{kind}"' in trail, kind, trail[-2000:])
        looked = gateway.cli("audit", "search", "--kind", "operator", "--output", "json").stdout
        check(f"session replay {session} recording 1" in looked, "who looked is in the trail", looked)
        check(gateway.cli("audit", "verify").returncode == 0)
        # Who may not watch sees nothing, and is told so.
        refused = replay(gateway, session, token=gateway.agent)
        check(refused.returncode == 1 and "one" not in refused.stdout, refused)
        status = gateway.cli("secrets", "status").stdout
        check("recordings" in status, status)
        # The gateway that does not run: what it keeps is played all the same.
        gateway.stop_only()
        played = subprocess.run([gateway.binary, "sessions", "replay", session, "--config", str(gateway.config)], text=True, capture_output=True,
                                env={key: value for key, value in os.environ.items() if key != "GATEWAY_URL"})
        check(played.returncode == 0 and played.stdout == done.stdout, played)


def test_both_outputs_and_bytes_that_are_no_text_are_kept(w):
    with hosted(w) as (gateway, _):
        script = gateway.tree / "both"
        script.write_text("printf 'a\\377b\\303'; sleep 0.1; printf '\\251c'; echo no >&2; exit 3\n")
        done = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"sh {script}", errors="replace")
        check(done.wait(20) == 3, done.stderr.read())
        cast = replay(gateway, last(gateway), "--export", "-").stdout.splitlines()
        events = [json.loads(line) for line in cast[1:] if line.startswith("[")]
        import base64
        out = b"".join(base64.b64decode(data) if code == "O" else data.encode() for _, code, data in events if code in "oO")
        check(out == b"a\xffb\xc3\xa9c", out, events)
        check(any(code == "e" and data == "no\n" for _, code, data in events) and events[-1][1:] == ["x", "3"], events)


def test_a_shell_is_recorded_and_what_is_typed_without_an_echo_is_not(w):
    with hosted(w) as (gateway, _):
        shell = Shell(gateway, gateway.person)
        try:
            shell.read(1.5)
            shell.type("PS1='ready> '\r")
            shell.read(0.5)
            shell.type("read -s -p 'Password: ' p; echo; echo len ${#p}\r")
            shell.until(b"Password: ")
            shell.read(0.3)
            shell.type("hunter2zz\r")
            shell.until(b"len 9")
            # A paste, all at once.
            shell.type("read -s -p 'Again: ' p; echo; echo len ${#p}\r")
            shell.until(b"Again: ")
            shell.read(0.3)
            os.write(shell.fd, b"tops3cret\r")
            shell.until(b"len 9", 5)
            shell.read(0.5)
            shell.type("echo v''isible\r")
            shell.until(b"visible")
            shell.type("exit\r")
            shell.end()
        finally:
            shell.drop()
        session = last(gateway)
        cast = replay(gateway, session, "--export", "-").stdout
        check("hunter2" not in cast and "hunter" not in cast and "tops3cret" not in cast, cast)
        events = [json.loads(line) for line in cast.splitlines()[1:] if line.startswith("[")]
        typed = "".join(data for _, code, data in events if code == "i")
        check(typed.count("[hidden]\r") >= 2 and "echo v''isible\r" in typed and "exit\r" in typed, typed)
        shown = "".join(data for _, code, data in events if code == "o")
        check(shown.encode() in shell.out, "what was shown", shown[-500:], shell.out[-500:])
        header = json.loads(cast.splitlines()[0])
        check(header["gateway"]["kind"] == "shell" and header["term"]["type"] == "xterm", header)
        played = replay(gateway, session)
        check("visible" in played.stdout and "\x1b" not in played.stdout, played.stdout[-500:])
        drawn, _ = on_a_terminal(gateway, "sessions", "replay", session, "--speed", "50")
        check(b"visible" in drawn, drawn[-1000:])


def test_hostile_escapes_do_not_come_out_of_a_recording(w):
    with hosted(w) as (gateway, _):
        hostile = gateway.tree / "hostile"
        hostile.write_bytes(b"printf '\\033]0;owned\\007\\033]52;c;b3duZWQ=\\007\\033[6n\\033[c\\033P+q\\033\\\\\\033[?1049h\\033[?1000h\\302\\2336n seen\\033[21t'\n")
        shell = Shell(gateway, gateway.person, "sh", str(hostile))
        try:
            shell.end()
        finally:
            shell.drop()
        session = last(gateway)
        cast = replay(gateway, session, "--export", "-").stdout
        check("owned" in cast, "it is kept as it was", cast)
        drawn, told = on_a_terminal(gateway, "sessions", "replay", session)
        check(b"seen" in drawn, drawn, told)
        rest = TAME.sub(b"", drawn)
        check(b"\x1b" not in rest and b"owned" not in rest and b"\x9b" not in rest.replace(b"\xc2\x9b", b"\x9b"), rest)
        raw, _ = on_a_terminal(gateway, "sessions", "replay", session, "--raw")
        check(b"\x1b]0;owned" in raw, "raw is raw", raw)


def test_a_recording_that_was_touched_is_named_and_what_is_before_is_shown(w):
    with hosted(w) as (gateway, _):
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"sh {slow(gateway)}")
        check(running.wait(30) == 0, running.stderr.read())
        session = last(gateway)
        file = folder(gateway, session) / "1.cast"
        good = file.read_bytes()
        lines = good.split(b"\n")
        chunks = [at for at, line in enumerate(lines) if line.startswith(b"#chunk ")]
        check(len(chunks) >= 4, len(chunks))
        middle = chunks[2] - 1
        changed = lines[:middle] + [lines[middle][:40] + (b"A" if lines[middle][40:41] != b"A" else b"B") + lines[middle][41:]] + lines[middle + 1:]
        file.write_bytes(b"\n".join(changed))
        played = replay(gateway, session)
        check(played.returncode == 1 and "chunk 2 is not what was recorded" in played.stderr, played)
        check("step 1" in played.stdout and "step 4" not in played.stdout, played.stdout)
        verified = gateway.cli("audit", "verify")
        check(verified.returncode == 1 and f"recording 1 of session {session}: chunk 2 is not what was recorded" in verified.stderr, verified)
        check(gateway.cli("audit", "verify", "--no-recordings").returncode == 0)
        # With hashes that fit the change.
        forged, prev, at = [], bytes(32), 0
        for line in changed:
            if line.startswith(b"#chunk "):
                index = json.loads(line[7:])
                text = b"\n".join(forged[at:]) + b"\n"
                prev = hashlib.sha256(prev + f"{session}/1/{index['n']}/{index['at']}\n".encode() + text).digest()
                line = b"#chunk " + json.dumps(index | {"hash": prev.hex()}, separators=(",", ":")).encode()
                at = len(forged) + 1
            forged.append(line)
        file.write_bytes(b"\n".join(forged))
        verified = gateway.cli("audit", "verify")
        check(verified.returncode == 1 and "chunk 2 is not what was recorded: the audit trail has another hash" in verified.stderr, verified)
        # The last chunk is gone, with its seal.
        file.write_bytes(b"\n".join(lines[:chunks[-1] - 1]) + b"\n")
        played = replay(gateway, session)
        check(played.returncode == 1 and "is missing" in played.stderr, played)
        verified = gateway.cli("audit", "verify")
        check(verified.returncode == 1 and "is missing: the audit trail knows it" in verified.stderr, verified)
        file.unlink()
        verified = gateway.cli("audit", "verify", "--output", "json")
        check(verified.returncode == 1 and json.loads(verified.stdout)["recordings"]["faults"] == 1 and "nothing is there of the recording" in verified.stderr, verified)
        file.write_bytes(good)
        check(replay(gateway, session).returncode == 0 and gateway.cli("audit", "verify").returncode == 0)


def test_what_retention_removed_is_no_fault(w):
    with hosted(w) as (gateway, _):
        check(connect(gateway, gateway.agent, "echo", "old").returncode == 0)
        session = last(gateway)
        there = folder(gateway, session)
        old = there.parent.parent / "2020-01-01"
        old.mkdir()
        there.rename(old / session)
        configured(gateway, 'retain = "1d"')
        eventually(lambda: not old.exists(), "it is removed", 10)
        verified = gateway.cli("audit", "verify")
        check(verified.returncode == 0 and "removed by retention: 1" in verified.stdout, verified)
        check("recordings_removed" in gateway.cli("audit", "search", "--session", session, "--output", "json").stdout)


def slow(gateway):
    """A script that says something every second or so."""
    script = gateway.tree / f"slow-{time.monotonic_ns()}"
    script.write_text("for n in 1 2 3 4 5; do echo step $n; sleep 1.1; done\n")
    return script


def test_a_killed_gateway_seals_what_it_recorded_when_it_starts_again(w):
    with hosted(w) as (gateway, _):
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"sh {slow(gateway)}")
        session = eventually(lambda: (rows := sessions(gateway, ended=False)) and rows[0]["id"], "it runs", 10)
        file = eventually(lambda: next((gateway.dir / "data" / "recordings").glob(f"*/{session}/1.cast"), None), "it is recorded", 10)
        eventually(lambda: file.read_bytes().count(b"#chunk ") >= 3, "some of it is on disk", 10)
        os.killpg(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        running.wait(10)
        with open(file, "ab") as torn:
            torn.write(b"gwe1:half a li")
        gateway.start()
        played = replay(gateway, session)
        check(played.returncode == 0 and "NOT COMPLETE: the gateway stopped" in played.stderr and "step 1" in played.stdout, played)
        check(b"half a li" not in file.read_bytes() and b"#sealed " in file.read_bytes())
        trail = gateway.cli("audit", "search", "--kind", "recording_sealed", "--output", "json").stdout
        check("NOT COMPLETE" in trail and session in trail, trail)
        check(not list((gateway.dir / "data" / "recordings" / "open").iterdir()))
        check(gateway.cli("audit", "verify").returncode == 0)


@contextlib.contextmanager
def small(path, size="256k"):
    if os.geteuid() != 0:
        raise Skipped("only root can mount a file system of its own")
    path.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        raise Skipped("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def configured(gateway, recording, resource=""):
    """The gateway started again with these sections."""
    gateway.stop_only()
    text = gateway.config.read_text()
    if resource:
        text = text.replace('protocol = "ssh"\n', f'protocol = "ssh"\n{resource}\n', 1)
    gateway.config.write_text(text + f"\n[recording]\n{recording}\n")
    gateway.start()


def flood(gateway):
    """More than a small place has room for, then a wait."""
    script = gateway.tree / "flood"
    script.write_text("n=0; while [ $n -lt 40 ]; do head -c 20000 /dev/zero | tr '\\0' x; n=$((n+1)); sleep 0.1; done; echo all-of-it\n")
    return f"sh {script}"


def test_where_the_recorder_is_full_the_session_ends_and_says_so(w):
    with hosted(w) as (gateway, _), small(gateway.dir / "full") as full:
        configured(gateway, f'dir = "{full}"')
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", flood(gateway))
        out, err = running.communicate(timeout=40)
        check(running.returncode == 77 and "all-of-it" not in out and "the recorder fails" in err, running.returncode, out[-100:], err)
        rows = eventually(lambda: (rows := sessions(gateway)) and rows[0].get("ended") and rows, "it has ended", 10)
        check(rows[0]["reason"] == "the recorder failed", rows[0])
        trail = gateway.cli("audit", "search", "--session", rows[0]["id"], "--output", "json").stdout
        check('"recording_failed"' in trail and "No space left" in trail and "NOT COMPLETE" in trail, trail)
        # And nothing begins any more while it is full.
        with contextlib.suppress(OSError), open(full / "filler", "wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        again = connect(gateway, gateway.agent, "echo", "hello")
        check(again.returncode == 77 and "hello" not in again.stdout, again)
        # There is room again.
        (full / "filler").unlink()
        again = connect(gateway, gateway.agent, "echo", "hello")
        check(again.returncode == 0 and again.stdout == "hello\n", again)


def test_where_the_recorder_is_full_it_spills_if_the_resource_says_so(w):
    with hosted(w) as (gateway, _), small(gateway.dir / "full") as full:
        second = gateway.dir / "second"
        configured(gateway, f'dir = "{full}"\nspill_dir = "{second}"', 'recording = { on_failure = "spill" }')
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", flood(gateway))
        out, err = running.communicate(timeout=40)
        check(running.returncode == 0 and out.endswith("all-of-it\n"), running.returncode, out[-100:], err)
        session = last(gateway)
        played = replay(gateway, session)
        check(played.returncode == 0 and "it goes on in the second one" in played.stdout, played.stderr, played.stdout[-300:])
        shown = "".join(line for line in played.stdout.split("-- ")[0:1]) + "x" * 0
        check(played.stdout.count("x") >= out.count("x") and "all-of-it" in played.stdout, len(played.stdout), shown[-50:])
        check(list(second.glob(f"*/{session}/1.cast")))
        trail = gateway.cli("audit", "search", "--session", session, "--output", "json").stdout
        check("it goes on in the second place" in trail, trail)


def test_a_command_over_the_limit_is_cut_counted_and_goes_on(w):
    with hosted(w) as (gateway, _):
        configured(gateway, "limit = 65536")
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", flood(gateway))
        out, err = running.communicate(timeout=40)
        check(running.returncode == 0 and out.endswith("all-of-it\n"), err)
        played = replay(gateway, last(gateway))
        check(played.returncode == 0 and "more went through than it has room for" in played.stderr, played.stderr)
        check("-- cut: the recording has reached its limit" in played.stdout, played.stdout[-300:])


def test_files_are_marks_and_contents_only_where_it_is_said(w):
    with hosted(w) as (gateway, _):
        source = gateway.dir / "small"
        source.write_text("zeppelin-content")
        for contents in (False, True):
            if contents:
                configured(gateway, "files = true")
            for options in ([], ["-O"]):
                up = client(gateway, gateway.agent, "scp", *options, str(source), f"127.0.0.1:{gateway.tree}/up")
                check(up.wait(40) == 0, up.stderr.read())
                session = last(gateway)
                played = replay(gateway, session)
                check(f"{gateway.tree}/up: permitted" in played.stdout, options, played.stdout, played.stderr)
                cast = replay(gateway, session, "--export", "-").stdout
                packets = [json.loads(line) for line in cast.splitlines() if line.startswith("[")]
                import base64
                sent = b"".join(base64.b64decode(data) for _, code, data in packets if code == "u")
                check((b"zeppelin-content" in sent) == contents, options, contents, sent)


def test_a_shell_is_watched_as_it_happens_and_ended(w):
    with hosted(w) as (gateway, _):
        shell = Shell(gateway, gateway.person)
        try:
            shell.read(1.5)
            shell.type("echo bef''ore\r")
            shell.until(b"before")
            session = eventually(lambda: (rows := sessions(gateway, ended=False)) and rows[0]["id"], "it runs", 10)
            seen = {}
            watcher = threading.Thread(target=lambda: seen.update(zip(("out", "err"), on_a_terminal(gateway, "sessions", "watch", session, seconds=25))))
            watcher.start()
            time.sleep(2)
            shell.type("echo aft''er\r")
            shell.until(b"after")
            time.sleep(1)
            gateway.cli("sessions", "kill", session)
            shell.end()
            watcher.join(30)
        finally:
            shell.drop()
        out = TAME.sub(b" ", seen["out"])
        check(b"before" in out and b"after" in out and b"\x1b" not in out, seen)
        looked = gateway.cli("audit", "search", "--kind", "operator", "--output", "json").stdout
        check(f"session watch {session} recording 1" in looked, looked)
        played = replay(gateway, session)
        check(played.returncode == 0 and "after" in played.stdout, played)


def test_what_is_not_recorded_says_so_in_the_configuration_alone(w):
    with hosted(w) as (gateway, _):
        configured(gateway, "", "recording = { shell = true, exec = false }")
        check(connect(gateway, gateway.agent, "echo", "unseen").stdout == "unseen\n")
        none = replay(gateway, last(gateway))
        check(none.returncode == 1 and "there are no recordings" in none.stderr, none)
        gateway.stop_only()
        text = gateway.config.read_text()
        for bad, told in (('recording = { shell = true, exec = false }', 'recording = { shel = true }'),
                          ('recording = { shell = true, exec = false }', 'recording = { on_failure = "spill" }')):
            gateway.config.write_text(text.replace(bad, told))
            refused = gateway.cli("config", "check")
            check(refused.returncode == 1 and "recording" in refused.stdout + refused.stderr, told, refused)
        gateway.config.write_text(text)


def test_a_browser_plays_a_recording_and_obeys_nothing_in_it(w):
    from browser import browser
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        raise Skipped("there is no chromium here; scripts/setup.sh test installs it")
    with hosted(w) as (gateway, _), browser(w.scratch) as b:
        policies = next(gateway.dir.glob("**/ssh.cedar"))
        policies.write_text(policies.read_text() + '\n@id("look-on") permit (principal in Group::"operators", action in '
                            '[Action::"session-view", Action::"session-watch"], resource == Resource::"web-1");\n')
        configured(gateway, "files = false")
        script = gateway.tree / "shows"
        script.write_bytes(b"printf '\\033]0;owned\\007<img src=x onerror=alert(1)> \\033[31mred\\033[m\\n'; sleep 1.2; echo later; sleep 0.5; clear; echo last\n")
        shell = Shell(gateway, gateway.person, "sh", str(script))
        try:
            shell.end()
        finally:
            shell.drop()
        session = last(gateway)
        base = f"http://127.0.0.1:{gateway.control}"
        b.go(base + "/")
        b.write("#token", gateway.person)
        b.click("main button")
        b.until(lambda: b.has("form.who"), "signed in")
        b.go(f"{base}/sessions/{session}")
        b.click("a[href$='/recordings/1']")
        b.until(lambda: "are those of the audit trail" in b.text("#stands"), "it is loaded, and proven")
        b.until(lambda: b.has("#controls:not([hidden])"), "it can be played")
        b.script("const bar = document.getElementById('seek'); bar.value = 1; bar.dispatchEvent(new Event('input'));")
        b.until(lambda: "<img src=x onerror=alert(1)> red" in b.text("#screen"), "what was shown is text")
        check("owned" not in b.text("#screen") and b.title() == "Recording · gateway", b.title())
        colour = b.script("return [...document.querySelectorAll('#screen span')].find((one) => one.textContent === 'red').style.color")
        check(colour == "rgb(205, 49, 49)", colour)
        b.write("#find", "last")
        b.click("#next")
        b.until(lambda: b.text("#found").startswith("at ") and "last" in b.text("#screen"), "it is found")
        check("later" not in b.text("#screen"), b.text("#screen"))
        b.script("document.getElementById('seek').value = 0; document.getElementById('seek').dispatchEvent(new Event('input'));")
        b.click("#play")
        b.until(lambda: b.text("#play") == "Play" and "last" in b.text("#screen"), "it plays to its end", 15)
        check(b.complaints() == [], b.complaints())
