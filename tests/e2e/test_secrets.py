"""Secrets stay where they are: not in logs, the trail, the store, answers or errors. And clocks that differ."""
import base64, datetime, os, pathlib, urllib.error, urllib.request

from harness import POLICIES, Skipped, check, eventually
from test_roles import none_left, ours

POLICY = {**POLICIES, "held": """
@id("held") @approve("dba") @wait("2s")
permit (principal in Group::"readers", action == Action::"write", resource == Table::"orders-db/public.orders");
@id("operates")
permit (principal in Group::"readers", action in [Action::"session-view", Action::"session-watch", Action::"audit-search", Action::"administer"], resource);
"""}
WORDS = {"admin": "canary-admin-Quokka-5512", "static": "canary-static-Numbat-7781"}
HOOK = "whsec_" + base64.b64encode(b"canary-hook-Wombat-93210").decode()
FAKETIME = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def resource(w, name, kind, user, word):
    file = w.scratch / f"canary-{name}"
    file.write_text(word)
    secret = f'{{ file = "{file}" }}'
    text = {"role": f'{{ kind = "role", ttl = "1m", admin = {{ username = "{user}", password = {secret} }} }}',
            "static": f'{{ kind = "static", username = "{user}", password = {secret} }}'}[kind]
    return w.resource(name, credential=text)


def test_no_secret_is_found_where_it_does_not_belong(w):
    """One of everything with words that are nowhere else, faults included; then all that was written or answered is looked through."""
    w.admin("DROP ROLE IF EXISTS canary_admin; DROP ROLE IF EXISTS canary_static")
    w.admin(f"CREATE ROLE canary_admin SUPERUSER LOGIN PASSWORD '{WORDS['admin']}'; CREATE ROLE canary_static LOGIN PASSWORD '{WORDS['static']}'")
    hook = w.scratch / "canary-hook"
    hook.write_text(HOOK)
    resources = "\n".join([
        f'[[notify.webhook]]\nname = "ops"\nurl = "http://127.0.0.1:9/x"\nallow_private = true\nsecret = {{ file = "{hook}" }}\n',
        resource(w, "orders-db", "role", "canary_admin", WORDS["admin"]),
        resource(w, "shared-db", "static", "canary_static", WORDS["static"]),
        # A password that the target refuses: what it says of that must not repeat it.
        resource(w, "wrong-db", "static", "canary_static", WORDS["static"] + "-wrong"),
        resource(w, "wrong-admin-db", "role", "canary_admin", WORDS["admin"] + "-wrong")])
    told = []
    try:
        with w.own(policies=POLICY, resources=resources) as own:
            token = own.token("reader")
            for name in ("orders-db", "shared-db", "wrong-db", "wrong-admin-db"):
                done = own.psql("reader", "-c", "SELECT current_user", "-c", "SELECT nothing", env={"PGUSER": own.user("reader", name)})
                told += [done.stdout, done.stderr]
            check("gw_" in told[0] and "canary_static" in told[2], told[:4])
            told += [own.psql("reader", "-c", "UPDATE orders SET status = status WHERE id = 1").stderr]
            check("PA001" in told[-1] or "approval" in told[-1], told[-1])
            for argv in (["config", "show"], ["config", "show", "--output", "json"], ["config", "check", "--probe"], ["leases", "list", "--output", "json"],
                         ["audit", "search", "--limit", "500", "--output", "json"], ["token", "list", "--output", "json"], ["audit", "verify"],
                         ["sessions", "list", "--output", "json"], ["approvals", "list", "--output", "json"], ["notify", "list", "--output", "json"],
                         ["policy", "explain", "--as", "alice", "--resource", "shared-db", "SELECT 1"]):
                done = own.cli(*argv, ok=False)
                told += [done.stdout, done.stderr]
            for path in ("resources", "sessions", "audit", "leases", "approvals", "whoami", "notify", "openapi.json"):
                ask = urllib.request.Request(f"http://127.0.0.1:{own.gateway.control}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})
                try:
                    told.append(urllib.request.urlopen(ask, timeout=10).read().decode("utf-8", "replace"))
                except urllib.error.HTTPError as refused:
                    told.append(refused.read().decode("utf-8", "replace"))
            told.append(urllib.request.urlopen(f"http://127.0.0.1:{own.gateway.control}/metrics", timeout=10).read().decode())
            own.gateway.stop_only()
            words = {**WORDS, "hook": HOOK, "hook's bytes": "canary-hook-Wombat", "token": token}
            files = [file for file in own.gateway.dir.rglob("*") if file.is_file() and not file.is_symlink()]
            check(any(file.suffix in (".db", ".sqlite") or "sqlite" in file.name for file in files) and len(files) > 8, files)
            for what, word in words.items():
                for forms in (word.encode(), word.encode().hex().encode(), base64.b64encode(word.encode())[:-4]):
                    found = [str(file) for file in files if forms in file.read_bytes()]
                    check(not found, f"the secret of {what} is in", found)
                check(word not in "\n".join(told), f"the secret of {what} was told:", next((t for t in told if word in t), "")[:300])
            log = own.log()
            check("wrong-db" in log and "no target" in log, "operators are told why", log[-2000:])
    finally:
        eventually(lambda: ours(w) == 0, "the roles of sessions are gone", 20)
        w.admin("REASSIGN OWNED BY canary_admin TO postgres; DROP OWNED BY canary_admin; DROP ROLE canary_admin; DROP ROLE canary_static")


def test_a_clock_that_is_minutes_off_keeps_nobody_out(w):
    """A role's end is told by the server's clock, whatever the gateway's says."""
    if FAKETIME is None:
        raise Skipped("libfaketime is not installed")
    for skew in ("+5m", "-5m"):
        text = resource(w, "orders-db", "role", "postgres", "superuser")
        with w.own(policies=POLICY, resources=text, start=False) as own:
            kept = {name: os.environ.get(name) for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC")}
            os.environ.update(LD_PRELOAD=str(FAKETIME), FAKETIME=skew, FAKETIME_DONT_FAKE_MONOTONIC="1")
            try:
                own.gateway.start()
                # Made by the clock of the gateway that is to take it.
                token = own.token("reader", fresh=True)
            finally:
                for name, value in kept.items():
                    os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
            done = own.psql("reader", "-c", "SELECT current_user", env={"PGPASSWORD": token})
            check(done.stdout.startswith("gw_"), skew, done.stdout, done.stderr)
            off = [abs(datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(row["at"][:19] + "+00:00")).total_seconds()
                   for row in own.rows("audit", "search")]
            check(off and min(off) > 200, skew, "the gateway's clock is off", off[:3])
            wire = own.wire("reader", password=token)
            left = int(w.admin("SELECT extract(epoch FROM rolvaliduntil - now())::int FROM pg_roles WHERE rolname LIKE 'gw\\_%'")[0])
            check(20 < left <= 70, skew, "the role ends in", left, "s by the server's clock, of 60")
            wire.close()
            none_left(own)

