"""Receivers outside that are told what waits for people: signed, again where they fail, and across crashes."""
import base64, contextlib, http.server, json, os, threading, time

import common
import rig
from harness import check, eventually
from test_approvals import UPDATE, Office, POLICIES, finish, send

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
OLDER = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba98").decode()


class Ear:
    """A receiver. `answers` are statuses, one a request, then `usual`; each request is kept as it came."""

    def __init__(self, answers=(), usual=204, location=None, stall=False, port=0):
        self.heard, self.answers, self.usual = [], list(answers), usual
        self.location, self.stall = location, stall
        ear = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                ear.heard.append((self.path, dict(self.headers), body))
                if ear.stall:
                    time.sleep(20)
                self.send_response(ear.answers.pop(0) if ear.answers else ear.usual)
                if ear.location:
                    self.send_header("Location", ear.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self):
        return [json.loads(body) for _, _, body in list(self.heard)]

    def wait(self, kind, seconds=10, count=1):
        def there():
            found = [e for e in self.events() if e["type"] == kind]
            return found if len(found) >= count else None
        return eventually(there, f"{count} of {kind}; heard {[e['type'] for e in self.events()]}", seconds)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def ears(*options):
    all_ = [Ear(**o) for o in options]
    try:
        yield all_ if len(all_) > 1 else all_[0]
    finally:
        for ear in all_:
            ear.close()


def hook(port, name="ops", more="", private="true", host="127.0.0.1", scheme="http"):
    return f"""
[[notify.webhook]]
name = "{name}"
url = "{scheme}://{host}:{port}/in"
secret = {{ env = "HOOK" }}
allow_private = {private}
{more}
"""


@contextlib.contextmanager
def office(w, sections, start=True, policies=POLICIES, kind=Office):
    os.environ["HOOK"], os.environ["HOOK_OLD"] = SECRET, OLDER
    try:
        with w.own(policies=policies, sections=sections, start=start) as own:
            try:
                yield kind(own)
            finally:
                w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
                w.admin("DELETE FROM orders_log")
    finally:
        del os.environ["HOOK"], os.environ["HOOK_OLD"]


def listed(o):
    done = o.w.gateway.cli("notify", "list", "--output", "json")
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)


def verified(request, secret=SECRET):
    from standardwebhooks import Webhook
    _, headers, body = request
    return Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()})


def test_what_waits_and_what_became_of_it_is_told_and_signed(w):
    with ears({}) as ear, office(w, hook(ear.port, more='previous_secret = { env = "HOOK_OLD" }')) as o:
        wire = o.wire("wanda", options="-c gateway.reason=INC-7")
        approval = send(wire, UPDATE.format("zeppelin", 1))
        opened = ear.wait("approval.opened")[0]
        data = opened["data"]
        check(data["id"] == approval and data["requester"] == "wanda@corp.test" and data["reason"] == "INC-7", data)
        check(data["groups"] == ["dba"] and data["url"].endswith("/approvals/" + approval), data)
        check(any(line.startswith("write ") for line in data["operations"]), data)
        check(b"zeppelin" not in ear.heard[0][2], "a value was told")
        o.decide("approve", approval, "dana", "--reason", "looks right")
        check(finish(wire) == [], wire.errors)
        decided = ear.wait("approval.decided")[0]["data"]
        check(decided["state"] == "approved" and decided["by"] == "dana@corp.test", decided)
        check(decided["note"] == "looks right", decided)
        ear.wait("approval.used")
        denied = send(wire, UPDATE.format("no", 2))
        o.decide("deny", denied, "dana")
        finish(wire)
        check(ear.wait("approval.decided", count=2)[1]["data"]["state"] == "denied")
        ids = set()
        for request in ear.heard:
            check(verified(request) == verified(request, OLDER), "both secrets sign")
            ids.add(request[1]["webhook-id"])
        check(len(ids) == len(ear.heard), "an id twice")
        with contextlib.suppress(Exception):
            verified((None, ear.heard[0][1], ear.heard[0][2] + b" "))
            raise SystemExit("a changed body was taken")
        check(listed(o) == [], listed(o))
        check(SECRET not in o.w.log() and SECRET[6:] not in o.w.gateway.cli("config", "show").stdout)


def test_statements_are_told_only_where_the_configuration_says_so(w):
    two = lambda ears: hook(ears[0].port, "short", 'events = ["approval.opened"]') \
        + hook(ears[1].port, "long", 'include = "statement"\nevents = ["approval.opened", "approval.expired"]')
    with ears({}, {}) as both, office(w, two(both)) as o:
        wire = o.wire("wanda")
        send(wire, "UPDATE samples SET id = id WHERE id = 1 AND 'zeppelin' <> ''")
        both[0].wait("approval.opened")
        long = both[1].wait("approval.opened")[0]["data"]
        check("zeppelin" in long["statement"], long)
        both[1].wait("approval.expired", seconds=20)
        check([e["type"] for e in both[0].events()] == ["approval.opened"], both[0].events())
        check(b"zeppelin" not in both[0].heard[0][2])


def test_access_and_sessions_that_are_killed_are_told(w):
    import test_access
    with ears({}) as ear, office(w, hook(ear.port), policies=test_access.POLICIES, kind=test_access.Desk) as o:
        wire = o.wire("wanda")
        refused, given, short = (o.ask("wanda", "--action", "read"), o.ask("wanda", "--action", "write"),
                                 o.ask("wanda", "--action", "read", "--action", "write", lasting="2s"))
        o.decide("deny", refused, "dana")
        o.decide("approve", given, "dana")
        o.decide("approve", short, "dana")
        o.access("revoke", given, "--reason", "over", who="dana")
        check({e["data"]["id"] for e in ear.wait("access.requested", count=3)} == {refused, given, short})
        check(ear.wait("access.requested")[0]["data"]["reason"] == "INC-9")
        check([e["data"]["id"] for e in ear.wait("access.refused")] == [refused])
        check({e["data"]["id"] for e in ear.wait("access.granted", count=2)} == {given, short})
        ended = {e["data"]["id"]: e["data"] for e in ear.wait("access.ended", count=2, seconds=20)}
        check(ended[given]["state"] == "revoked" and "over" in ended[given]["note"], ended)
        check(ended[short]["state"] == "ended", ended)
        session = json.loads(o.w.gateway.cli("sessions", "list", "--live", "--output", "json").stdout)[0]["id"]
        check(o.w.gateway.cli("sessions", "kill", session).returncode == 0)
        killed = ear.wait("session.killed")[0]["data"]
        check(killed["id"] == session and killed["requester"] == "wanda@corp.test", killed)
        wire.close()


def test_what_fails_is_sent_again_and_who_is_gone_is_left_alone(w):
    with ears({"answers": [500]}, {"usual": 410}) as (failing, gone), \
            office(w, hook(failing.port, "failing") + hook(gone.port, "gone")) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("again", 1))
        failing.wait("approval.opened", seconds=15, count=2)
        first, second = failing.heard[:2]
        check(first[1]["webhook-id"] == second[1]["webhook-id"] and first[2] == second[2], "another message")
        check(verified(first) == verified(second))
        dead = eventually(lambda: [m for m in listed(o) if m["state"] == "dead"], "no dead letter")
        check(dead[0]["receiver"] == "gone" and "410" in dead[0]["error"], dead)
        o.decide("deny", approval, "dana")
        finish(wire)
        failing.wait("approval.decided")
        check(len(gone.heard) == 1, "told after 410")
        # A person has it sent again, once the receiver is there again and the gateway was started anew.
        check(o.w.gateway.cli("notify", "retry", dead[0]["id"], token=o.token("dana")).returncode == 1)
        o.w.gateway.stop_only()
        gone.usual = 204
        o.w.gateway.start()
        check(o.w.gateway.cli("notify", "retry", dead[0]["id"]).returncode == 0)
        eventually(lambda: not listed(o), "the dead letter stays")
        check(gone.heard[-1][1]["webhook-id"] == dead[0]["id"])
        check(o.w.gateway.cli("notify", "retry", "msg_0000").returncode == 1)
        log = o.w.log()
        check("410" in log and "a message did not arrive" in log, log[-2000:])


def test_a_receiver_that_stalls_holds_nobody_up(w):
    with ears({"stall": True}, {}) as (slow, fast), office(w, hook(slow.port, "slow") + hook(fast.port, "fast")) as o:
        wire = o.wire("wanda")
        started = time.monotonic()
        approval = send(wire, UPDATE.format("slow", 3))
        check(time.monotonic() - started < 3, "the hold waited for a receiver")
        fast.wait("approval.opened")
        o.decide("approve", approval, "dana")
        check(finish(wire) == [])
        check(time.monotonic() - started < 8)
        eventually(lambda: any("does not answer" in (m["error"] or "") for m in listed(o)), "no time-out", 20)


def test_neither_redirects_nor_private_addresses_nor_proxies_are_followed(w):
    with ears({}) as trap:
        with ears({"usual": 307, "location": f"http://127.0.0.1:{trap.port}/"}) as redirects:
            sections = hook(redirects.port, "redirects") \
                + hook(trap.port, "private", private="false", host="localhost", scheme="https")
            os.environ["HTTP_PROXY"] = os.environ["ALL_PROXY"] = os.environ["HTTPS_PROXY"] = f"http://127.0.0.1:{trap.port}"
            try:
                with office(w, sections) as o:
                    send(o.wire("wanda"), UPDATE.format("x", 4))
                    seen = eventually(lambda: {m["receiver"]: m["error"] for m in listed(o) if m["error"]}, "no error")
                    eventually(lambda: len({m["receiver"] for m in listed(o) if m["error"]}) == 2, "two errors")
                    seen = {m["receiver"]: m["error"] for m in listed(o)}
                    check("redirects are not followed" in seen["redirects"], seen)
                    check("not public" in seen["private"], seen)
            finally:
                for name in ("HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY"):
                    del os.environ[name]
        check(trap.heard == [], "the trap was asked", trap.heard)


def test_what_a_crash_interrupts_is_told_after_the_restart(w):
    number = common.free_port()
    with office(w, hook(number)) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("crash", 5))
        o.w.kill()
        ear = Ear(port=number)
        try:
            o.w.gateway.start()
            opened = ear.wait("approval.opened", seconds=40)[0]
            check(opened["data"]["id"] == approval, opened)
            verified(ear.heard[0])
            check(o.w.gateway.cli("audit", "verify").returncode == 0)
        finally:
            ear.close()


def test_two_gateways_of_one_store_tell_once(w):
    import test_nodes
    store = rig.Server(w.suite)
    with ears({}) as ear:
        os.environ["HOOK"] = SECRET
        try:
            store.cluster()
            store.admin("postgres", [f"CREATE ROLE gw LOGIN PASSWORD '{test_nodes.PASSWORD}'",
                                     "CREATE DATABASE store OWNER gw"])
            url = f'[store]\nurl = "postgres://gw:{test_nodes.PASSWORD}@127.0.0.1:{store.port}/store"\n'
            with w.own(start=False, policies=POLICIES, sections=url + hook(ear.port)) as a, \
                    w.own(start=False, policies=POLICIES, sections=url + hook(ear.port)) as b:
                a.gateway.start()
                test_nodes.lend_keys(a, b)
                b.gateway.start()
                one, two = Office(a), Office(b)
                two.tokens = one.tokens
                held = [send(one.wire("wanda"), UPDATE.format("n", n)) for n in (6, 7)]
                held += [send(two.wire("wanda"), UPDATE.format("n", n)) for n in (8, 9)]
                for approval in held:
                    two.decide("deny", approval, "dana")
                ear.wait("approval.decided", count=4, seconds=20)
                time.sleep(2)
                told = [(e["type"], e["data"]["id"]) for e in ear.events()]
                check(len(told) == len(set(told)), "told twice", told)
                check({id for kind, id in told if kind == "approval.opened"} == set(held), told)
        finally:
            del os.environ["HOOK"]
            store.stop()


def test_faults_in_the_section_are_told_by_config_check(w):
    for text, told in [
        (hook(1, scheme="ftp"), "must begin with `https://`"),
        (hook(1, private="false"), "must begin with `https://`"),
        (hook(1, private="false", scheme="https"), "not public"),
        (hook(1, more='events = ["approval.open"]'), "did you mean `approval.opened`?"),
        (hook(1, more='events = []'), "is empty"),
        (hook(1, more='include = "all"'), "`summary` or `statement`"),
        (hook(1, more='colour = "red"'), "unknown key"),
        (hook(1).replace('{ env = "HOOK" }', '"whsec_hunter2"'), "the configuration holds no secrets"),
        (hook(1).replace('"HOOK"', '"SHORT"'), "24 to 64 bytes"),
        (hook(1).replace('"HOOK"', '"PLAIN"'), "must be `whsec_` and base64"),
        (hook(1) + hook(2), "two webhooks are named `ops`"),
    ]:
        os.environ.update(SHORT="whsec_aGVsbG8=", PLAIN="hunter2")
        try:
            with office(w, text, start=False) as o:
                done = o.w.gateway.cli("config", "check")
                check(done.returncode == 1 and told in done.stderr, told, done.stdout[-300:], done.stderr)
                check("hunter2" not in done.stderr + done.stdout, "a secret was printed")
        finally:
            del os.environ["SHORT"], os.environ["PLAIN"]
