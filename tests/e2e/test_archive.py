"""Recordings in object storage and in a folder: nothing here goes before it is there, and what comes back is proven."""
import os, signal, subprocess, time

from harness import check, eventually
from s3 import S3
from test_recordings import configured, folder, last, replay, small
from test_ssh import client, connect, hosted


def archive(gateway, s3, keep="0s", more=""):
    """The gateway with an archive."""
    secret = gateway.dir / "s3-key"
    secret.write_text("zeppelin-secret\n")
    secret.chmod(0o600)
    configured(gateway, f"""{more}
[recording.archive]
url = "s3://recordings/prod/a"
endpoint = "http://127.0.0.1:{s3.port}"
allow_http = true
access_key_id = "{s3.key}"
secret_access_key = {{ file = "{secret}" }}
keep_local = "{keep}"
""")


def gone(gateway, session, name="1.cast"):
    there = folder(gateway, session)
    return eventually(lambda: (there / "1.archived").exists() and not (there / name).exists(), "it is in the archive alone", 30)


def without_a_gateway(gateway, *argv):
    env = {key: value for key, value in os.environ.items() if key != "GATEWAY_URL"}
    return subprocess.run([gateway.binary, *argv, "--config", str(gateway.config)], text=True, capture_output=True, env=env)


def test_a_recording_is_in_the_bucket_sealed_and_is_played_from_there(w):
    with hosted(w) as (gateway, _), S3() as s3:
        archive(gateway, s3)
        done = connect(gateway, gateway.agent, "echo", "hello there")
        check(done.returncode == 0, done)
        session = last(gateway)
        gone(gateway, session)
        (name, data), = s3.objects.items()
        check(name.startswith("recordings/prod/a/") and name.endswith(f"/{session}/1.cast"), name)
        check(b"hello" not in data and not s3.unsigned, "sealed, and each request signed", s3.unsigned)
        played = replay(gateway, session)
        check(played.returncode == 0 and played.stdout == done.stdout and "are those of the audit trail" in played.stderr, played)
        listed = replay(gateway, session, "--list").stdout
        check("exit status 0" in listed and "echo" in listed, listed)
        trail = gateway.cli("audit", "search", "--session", session, "--output", "json").stdout
        check('"recording_archived"' in trail, trail)
        verified = gateway.cli("audit", "verify")
        check(verified.returncode == 0 and "1 were read from the archive" in verified.stdout, verified)
        shown = gateway.cli("config", "check").stdout
        check("s3://recordings/prod/a" in shown and "zeppelin-secret" not in shown, shown)
        gateway.stop_only()
        played = without_a_gateway(gateway, "sessions", "replay", session)
        check(played.returncode == 0 and played.stdout == done.stdout, played)


def test_what_was_changed_cut_or_removed_there_is_told(w):
    with hosted(w) as (gateway, _), S3() as s3:
        archive(gateway, s3)
        check(connect(gateway, gateway.agent, "echo", "hello").returncode == 0)
        session = last(gateway)
        gone(gateway, session)
        (name, good), = s3.objects.items()
        changed = bytearray(good)
        changed[40] ^= 1
        # Only the bytes of the first line are touched; its hash stays.
        for bad, told in ((bytes(changed), "chunk 0 is not what was recorded"), (good[:good.rindex(b"\n", 0, len(good) // 2 + 200)], ""), (b"", ""), (None, "there is no object")):
            if bad is None:
                del s3.objects[name]
            else:
                s3.objects[name] = bad
            played = replay(gateway, session)
            check(played.returncode == 1 and "IS NOT WHAT WAS RECORDED" in played.stderr and told in played.stderr, bad, played)
            verified = gateway.cli("audit", "verify")
            check(verified.returncode == 1 and session in verified.stderr and told in verified.stderr, bad, verified)
            check(gateway.cli("audit", "verify", "--no-recordings").returncode == 0)
        s3.objects[name] = good
        s3.fault = lambda method, name, number: "cut" if method == "GET" else None
        check(replay(gateway, session).returncode == 1, "cut on its way")
        s3.fault = lambda method, name, number: None
        check(replay(gateway, session).returncode == 0 and gateway.cli("audit", "verify").returncode == 0)


def test_nothing_is_lost_while_it_fails_in_every_way(w):
    with hosted(w) as (gateway, _), S3() as s3:
        archive(gateway, s3)
        current = {"fault": "slow"}
        s3.fault = lambda method, name, number: current["fault"]
        began = time.monotonic()
        check(connect(gateway, gateway.agent, "echo", "kept").stdout == "kept\n")
        check(time.monotonic() - began < 5, "no session waits for the archive")
        session = last(gateway)
        there = folder(gateway, session)
        for fault in ["500", "403", "reset"]:
            current["fault"] = fault
            seen = len(s3.log)
            eventually(lambda: len(s3.log) > seen, f"it is tried again after {fault}", 60)
            check((there / "1.cast").exists() and not (there / "1.archived").exists(), fault)
        current["fault"] = None
        gone(gateway, session)
        check(replay(gateway, session).stdout == "kept\n")


def test_a_gateway_that_was_killed_finds_what_is_not_there_yet(w):
    with hosted(w) as (gateway, _), S3() as s3:
        archive(gateway, s3, keep="1h")
        # What was put is there; reading it back fails, so nothing says that it is.
        s3.fault = lambda method, name, number: "500" if method == "GET" else None
        check(connect(gateway, gateway.agent, "echo", "kept").returncode == 0)
        session = last(gateway)
        eventually(lambda: s3.objects, "it is put", 20)
        check(not (folder(gateway, session) / "1.archived").exists())
        os.killpg(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        s3.fault = lambda method, name, number: None
        s3.log.clear()
        gateway.start()
        eventually(lambda: (folder(gateway, session) / "1.archived").exists(), "it is found again", 30)
        check(not [one for one in s3.log if one[0] in ("PUT", "POST")], "and not put again", s3.log)
        check((folder(gateway, session) / "1.cast").exists(), "and kept here for its hour")
        check(replay(gateway, session).stdout == "kept\n" and gateway.cli("audit", "verify").returncode == 0)


def test_a_large_recording_goes_in_parts(w):
    with hosted(w) as (gateway, _), S3() as s3:
        archive(gateway, s3)
        script = gateway.tree / "large"
        script.write_text("head -c 20000000 /dev/zero\n")
        running = client(gateway, gateway.agent, "ssh", "127.0.0.1", f"sh {script}", errors="replace")
        out, err = running.communicate(timeout=60)
        check(running.returncode == 0 and len(out) == 20000000, err)
        session = last(gateway)
        gone(gateway, session)
        check(any("partNumber" in query for _, _, query in s3.log) and not s3.uploads, "in parts, and whole")
        (name, data), = s3.objects.items()
        check(len(data) > 20000000, len(data))
        check(gateway.cli("audit", "verify").returncode == 0)


def test_a_disk_that_is_full_loses_nothing(w):
    with hosted(w) as (gateway, _), small(gateway.dir / "full") as full, S3() as s3:
        s3.fault = lambda method, name, number: "500"
        archive(gateway, s3, more=f'dir = "{full}"')
        check(connect(gateway, gateway.agent, "echo", "kept").returncode == 0)
        session = last(gateway)
        there = next(full.glob(f"*/{session}"))
        try:
            with open(full / "filler", "wb", buffering=0) as filler:
                while filler.write(b"x" * 4096):
                    pass
        except OSError:
            pass
        s3.fault = lambda method, name, number: None
        eventually(lambda: s3.objects, "it is put", 60)
        time.sleep(1)
        check((there / "1.cast").exists() and not (there / "1.archived").exists(), "it can't be marked, so it stays", list(there.iterdir()))
        (full / "filler").unlink()
        eventually(lambda: (there / "1.archived").exists() and not (there / "1.cast").exists(), "there is room again", 90)
        check(replay(gateway, session).stdout == "kept\n")


def test_a_folder_is_an_archive_too_and_its_configuration_is_checked(w):
    with hosted(w) as (gateway, _):
        mounted = gateway.dir / "mounted"
        mounted.mkdir()
        configured(gateway, f'archive = {{ url = "file://{mounted}", keep_local = "0s" }}')
        check(connect(gateway, gateway.agent, "echo", "kept").returncode == 0)
        session = last(gateway)
        gone(gateway, session)
        file, = mounted.glob(f"*/{session}/1.cast")
        check(file.stat().st_mode & 0o777 == 0o600 and b"kept" not in file.read_bytes())
        check(replay(gateway, session).stdout == "kept\n")
        gateway.stop_only()
        text = gateway.config.read_text()
        line = next(line for line in text.splitlines() if line.startswith("archive ="))
        for bad, told in (('archive = { url = "ftp://x" }', "`url` must be"),
                          ('archive = { url = "s3://bucket" }', "needs `access_key_id`"),
                          ('archive = { url = "s3://b", region = "r", access_key_id = "k", secret_access_key = "zeppelin" }', "the configuration holds no secrets"),
                          ('archive = { url = "s3://b", endpoint = "http://10.0.0.1", access_key_id = "k", secret_access_key = { env = "X" } }', "allow_http"),
                          ('archive = { url = "file:///x", keep = "1d" }', "keep_local")):
            gateway.config.write_text(text.replace(line, bad))
            refused = gateway.cli("config", "check")
            out = refused.stdout + refused.stderr
            check(refused.returncode == 1 and told in out and "zeppelin" not in out, bad, refused)
        gateway.config.write_text(text)
