"""A trail that proves itself: signatures, keys, retention, export, and a disk that fails."""
import contextlib, http.server, json, os, pathlib, re, signal, socket, ssl, subprocess, threading, urllib.error, urllib.request

from harness import Skipped, check, eventually, query

OFTEN = "[audit]\ncheckpoint_records = 5\nsegment_bytes = 8192\n"
UPDATE = "UPDATE tickets SET subject = 'subject 1' WHERE id = 1"


def stop(own):
    own.gateway.process.send_signal(signal.SIGTERM)
    check(own.gateway.process.wait(20) == 0, own.log()[-2000:])


def segments(own):
    return sorted((own.gateway.dir / "data" / "audit").glob("audit-*.jsonl"))


def trail(own):
    return [line for segment in segments(own) for line in segment.read_text().splitlines()]


def work(own, times=30, who="writer"):
    wire = own.wire(who)
    for n in range(times):
        check(query(wire, f"{UPDATE} AND {n} = {n}")[1] == [], wire.errors)
    wire.close()


def metric(own, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{own.gateway.control}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name):
                return float(line.split()[-1])
    return None


def ready(own):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{own.gateway.control}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


# ---- signatures ----

def test_tampering_is_named_and_the_end_shows_against_an_anchor(w):
    with w.own(sections=OFTEN) as own:
        work(own)
        stop(own)
        key, anchor = own.gateway.dir / "key.pem", own.gateway.dir / "anchor.json"
        key.write_text(own.cli("audit", "key").stdout)
        anchor.write_text(own.cli("audit", "verify", "--output", "json").stdout)
        verify = ["audit", "verify", "--public-key", str(key), "--anchor", str(anchor)]
        done = own.cli(*verify)
        check("signed: " in done.stdout and "is there" in done.stdout, done.stdout)
        check(len(segments(own)) >= 3, segments(own))

        second = segments(own)[1]
        whole = second.read_bytes()
        lines = whole.splitlines(keepends=True)
        number = json.loads(lines[2])["seq"]
        for what, broken, told in [
                ("edited", b"".join([*lines[:2], lines[2].replace(b"tickets", b"tickits", 1), *lines[3:]]),
                 f"record {number} was changed"),
                ("removed", b"".join(lines[:2] + lines[3:]), f"records {number} to {number} were removed"),
                ("swapped", b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]), f"record {number} was moved"),
                ("cut", whole[:-10], "was changed"), ("empty", b"", "were removed")]:
            second.write_bytes(broken)
            for argv in (verify, ["audit", "verify"]):
                done = own.cli(*argv, ok=False)
                check(done.returncode == 1 and told in done.stderr, what, done.stdout, done.stderr)
            check(what in ("cut", "empty") or second.name in done.stderr, what, done.stderr)
        second.write_bytes(whole)

        last = segments(own)[-1]
        kept = last.read_bytes()
        last.write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
        check("the end is open" in own.cli("audit", "verify").stdout)
        done = own.cli(*verify, ok=False)
        check(done.returncode == 1 and "the end of the trail was removed" in done.stderr, done.stderr)
        last.write_bytes(kept)
        check(own.cli(*verify).returncode == 0)


def test_a_checkpoint_can_be_checked_with_openssl_alone(w):
    with w.own(sections=OFTEN) as own:
        work(own, 3)
        stop(own)
        (own.gateway.dir / "key.pem").write_text(own.cli("audit", "key").stdout)
        # As docs/src/audit.md has it.
        script = """
            line=$(grep -h '"type":"checkpoint"' data/audit/audit-*.jsonl | tail -n 1)
            printf %s "${line::-75}" | sha256sum | cut -c1-64 | grep -qF -f - <(printf %s "$line") || exit 8
            printf %s "${line::-219}" > covered
            signature=${line: -205:128}
            printf %b "$(sed 's/../\\\\x&/g' <<< "$signature")" > signature
            openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in covered -sigfile signature"""
        done = subprocess.run(["bash", "-c", script], cwd=own.gateway.dir, text=True, capture_output=True)
        check(done.returncode == 0 and "Successfully" in done.stdout, done.stdout, done.stderr)


def test_a_key_that_was_swapped_is_refused_and_one_that_was_replaced_in_order_is_not(w):
    with w.own(sections=OFTEN) as own:
        work(own, 3)
        stop(own)
        data = own.gateway.dir / "data"
        check((data / "audit.key").stat().st_mode & 0o777 == 0o600)
        old = own.gateway.dir / "old.pem"
        old.write_text(own.cli("audit", "key").stdout)
        mine = (data / "audit.key").read_bytes()
        made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
        (data / "audit.key").write_bytes(made)
        refused = subprocess.run([own.binary, "serve", "--config", str(own.gateway.config)], text=True,
                                 capture_output=True, timeout=20)
        check(refused.returncode == 1 and "put that key back" in refused.stderr, refused.stderr)
        (data / "audit.key").write_bytes(mine)
        own.cli("audit", "key", "--replace")
        new = own.gateway.dir / "new.pem"
        new.write_text(own.cli("audit", "key").stdout)
        check(old.read_text() != new.read_text())
        own.gateway.start()
        work(own, 3)
        done = own.cli("audit", "key", "--replace", ok=False)
        check(done.returncode == 1 and "stop the gateway first" in done.stderr, done.stderr)
        stop(own)
        for key in (old, new):
            check(own.cli("audit", "verify", "--public-key", str(key)).returncode == 0)
        foreign = own.gateway.dir / "foreign.pem"
        foreign.write_bytes(subprocess.run(["openssl", "pkey", "-pubout"], input=made, capture_output=True,
                                           check=True).stdout)
        done = own.cli("audit", "verify", "--public-key", str(foreign), ok=False)
        check(done.returncode == 1 and "is not signed by the key" in done.stderr, done.stderr)


def test_retention_drops_old_segments_and_the_rest_verifies(w):
    with w.own(sections=OFTEN.replace("8192", "4096") + "retain_bytes = 20000\n") as own:
        work(own, 60)
        eventually(lambda: "dropped" in own.cli("audit", "verify").stdout, "the oldest records are dropped")
        size = eventually(lambda: sum(s.stat().st_size for s in segments(own)) < 30000, "the trail is small", 20)
        check(size and own.rows("audit", "search", "--kind", "dropped"))
        check(own.rows("audit", "search", "--limit", "5"))
        stop(own)
        check(json.loads(trail(own)[0])["seq"] > 1)
        segments(own)[0].unlink()
        done = own.cli("audit", "verify", ok=False)
        check(done.returncode == 1 and "were removed" in done.stderr, done.stderr)


# ---- export ----

def test_a_reader_that_leaves_ends_a_command_without_a_panic(w):
    with w.own(sections=OFTEN) as own:
        work(own, 20)
        argv = [str(own.gateway.binary), "audit", "search", "--limit", "100", "--config", str(own.gateway.config)]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, timeout=60)
        check(done.returncode == 1 and b"standard output cannot be written" in done.stderr and b"panicked" not in done.stderr, done)
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, timeout=60)
        os.close(theirs)
        check(done.returncode == 141 and not done.stderr, done)


def test_export_gives_every_record_in_each_form(w):
    with w.own(sections=OFTEN) as own:
        work(own, 10)
        stop(own)
        lines = trail(own)
        done = own.cli("audit", "export")
        check(done.stdout.splitlines() == lines)
        cursor = int(re.search(r"cursor (\d+)", done.stderr).group(1))
        check(cursor == len(lines))
        check(own.cli("audit", "export", "--after", str(cursor - 2)).stdout.splitlines() == lines[-2:])
        check(own.cli("audit", "export", "--since", "1h", "--until", "30m").stdout == "")
        out = own.gateway.dir / "out"
        own.cli("audit", "export", "--to", str(out), "--format", "syslog")
        found = out.read_text().splitlines()
        check(len(found) == len(lines) and all(re.match(r"<\d+>1 \S+ \S+ gateway - \S+ \[audit@32473 seq=", f) for f in found))
        check([f.split("\ufeff", 1)[1] for f in found] == lines, "the message is the record")
        otlp = [json.loads(line) for line in own.cli("audit", "export", "--format", "otlp").stdout.splitlines()]
        bodies = [r["body"]["stringValue"] for o in otlp for r in o["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
        check(bodies == lines)


class Syslog(threading.Thread):
    """Takes octet-counted frames over TLS."""

    def __init__(self, port, context):
        super().__init__(daemon=True)
        self.messages, self.context = [], context
        self.server = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError, ValueError):
            stream = self.context.wrap_socket(client, server_side=True).makefile("rb")
            while True:
                digits = b""
                while (byte := stream.read(1)) != b" ":
                    if not byte:
                        return
                    digits += byte
                self.messages.append(stream.read(int(digits)).decode())


class Otlp(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        if server.broken:
            self.send_response(503)
        else:
            check(self.path == "/v1/logs" and self.headers["authorization"] == "Bearer sesame", self.headers)
            server.bodies += [r["body"]["stringValue"] for r in body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
            self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def certificate(folder):
    run = lambda *argv: subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)
    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "sink-ca.key", "-out",
        "sink-ca.pem", "-subj", "/CN=sinks", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "sink.key", "-out", "sink.csr",
        "-subj", "/CN=localhost")
    (pathlib.Path(folder) / "ext").write_text("subjectAltName=DNS:localhost\n")
    run("x509", "-req", "-in", "sink.csr", "-CA", "sink-ca.pem", "-CAkey", "sink-ca.key", "-CAcreateserial", "-out", "sink.pem",
        "-days", "2", "-extfile", "ext")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pathlib.Path(folder) / "sink.pem", pathlib.Path(folder) / "sink.key")
    return context


def test_continuous_export_has_no_gap_over_failures_and_kill_9(w):
    import common
    syslog_port, otlp_port = common.free_port(), common.free_port()
    token = w.scratch / "siem-token"
    token.write_text("Bearer sesame\n")
    sections = OFTEN + f"""
        [[audit.export]]
        kind = "file"
        path = "exported.jsonl"
        [[audit.export]]
        kind = "syslog"
        address = "localhost:{syslog_port}"
        ca = "sink-ca.pem"
        [[audit.export]]
        kind = "otlp"
        name = "siem"
        url = "https://localhost:{otlp_port}"
        ca = "sink-ca.pem"
        headers = {{ authorization = {{ file = "{token}" }} }}
        """
    with w.own(sections=sections, start=False) as own:
        context = certificate(own.gateway.dir)
        own.gateway.start()
        work(own, 10)  # the network's sinks are not there: nobody waits for them
        eventually(lambda: metric(own, 'audit_export_failures_total{sink="siem"}'), "the failure shows")
        eventually(lambda: (metric(own, 'audit_export_lag_records{sink="syslog"}') or 0) > 10, "so does the lag")
        check(ready(own)[0] == 200, "an export that fails stops nobody")
        syslog = Syslog(syslog_port, context)
        otlp = http.server.ThreadingHTTPServer(("127.0.0.1", otlp_port), Otlp)
        otlp.socket = context.wrap_socket(otlp.socket, server_side=True)
        otlp.bodies, otlp.broken = [], False
        threading.Thread(target=otlp.serve_forever, daemon=True).start()
        exported = own.gateway.dir / "exported.jsonl"
        sinks = {"file": lambda: exported.read_text().splitlines(), "otlp": lambda: list(otlp.bodies),
                 "syslog": lambda: [m.split("\ufeff", 1)[1] for m in list(syslog.messages)]}

        def complete():
            wanted = set(trail(own))
            return all(wanted <= set(read()) for read in sinks.values())

        try:
            eventually(complete, "every record is in every sink", 60)
            otlp.broken = True
            work(own, 20)
            own.kill()
            own.gateway.start()
            work(own, 5)
            own.kill()
            otlp.broken = False
            own.gateway.start()
            work(own, 5)
            eventually(complete, "every record is in every sink after kill -9", 60)
            for name, read in sinks.items():
                first = list(dict.fromkeys(json.loads(line)["seq"] for line in read()))
                check(first == sorted(first) and first == list(range(1, len(first) + 1)), name, "out of order")
            check("exported to siem: up to record" in own.cli("audit", "verify").stdout)
            check("sesame" not in own.log() and "sesame" not in own.cli("config", "show").stdout)
        finally:
            otlp.shutdown()
            syslog.server.close()


# ---- a disk that fails ----

@contextlib.contextmanager
def small_disk(own, size="4m"):
    if os.geteuid() != 0:
        raise Skipped("only root can mount a file system of its own")
    folder = pathlib.Path(own.gateway.dir) / "data" / "audit"
    folder.mkdir(parents=True, mode=0o700)
    os.chmod(folder.parent, 0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], capture_output=True).returncode:
        raise Skipped("nothing can be mounted here")
    try:
        yield folder
    finally:
        own.gateway.stop()
        own.gateway.log = open(os.devnull, "wb")  # stop() closes it once more
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_shows_on_readyz_and_leaves_no_noise_in_the_trail(w):
    with w.own(start=False) as own, small_disk(own) as folder:
        own.gateway.start()
        wire = own.wire("writer", seconds=60)
        check(query(wire, UPDATE)[1] == [])
        before = len(trail(own))
        for _ in range(5):
            check(ready(own) == (200, "ready\n"))
        check(len(trail(own)) - before <= 1, "to be asked leaves nothing but an outcome that was on its way")
        with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        long = f"{UPDATE} -- {'x' * 20000}"
        eventually(lambda: query(wire, long)[1] == ["42501"], "statements are refused")
        status, body = ready(own)
        check(status == 503 and "audit trail cannot be written" in body, status, body)
        (folder / "filler").unlink()
        # Nobody asks but the orchestrator: it recovers by itself.
        eventually(lambda: ready(own)[0] == 200, "ready again", 10)
        check(query(wire, UPDATE)[1] == [])
        wire.close()
        stop(own)
        check(not [line for line in trail(own) if "written again" in line], "no event tells of being asked")
        check(own.cli("audit", "verify").returncode == 0)


def test_a_read_only_disk_is_told_at_the_start_and_nothing_is_harmed(w):
    with w.own(start=False) as own, small_disk(own) as folder:
        own.gateway.start()
        work(own, 3)
        stop(own)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        refused = subprocess.run([own.binary, "serve", "--config", str(own.gateway.config)], text=True,
                                 capture_output=True, timeout=20)
        check(refused.returncode == 1 and "Read-only file system" in refused.stderr, refused.stderr)
        check(own.cli("audit", "verify").returncode == 0, "a copy that nobody can write verifies")
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        own.gateway.start()
        work(own, 3)
        stop(own)
        check("not in order" not in own.cli("audit", "verify").stdout)


def test_a_trail_that_is_gone_is_told_of(w):
    with w.own() as own:
        own.wire("reader").close()
        own.kill()
        for segment in segments(own):
            segment.unlink()
        done = own.cli("audit", "verify", ok=False)
        check(done.returncode == 1 and "THE AUDIT TRAIL IS GONE" in done.stderr, done)
        own.gateway.start()
        check("a new audit trail begins, though there is the key" in own.log(), own.log()[-3000:])
        own.cli("audit", "verify")
