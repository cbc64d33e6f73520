"""The REST API of the shipped gateway: who may, sessions as they happen, the trail, and what one cannot do."""
import contextlib, http.client, json, threading, time, urllib.error, urllib.request

from harness import POLICIES, check, eventually, query
import rig

CONTROL = dict(POLICIES, control="""
@id("operate") permit (principal in Group::"operators", action in [Action::"session-view", Action::"session-watch",
    Action::"session-kill", Action::"audit-search", Action::"administer"], resource == Resource::"orders-db");
@id("look") permit (principal in Group::"lookers", action == Action::"session-view", resource == Resource::"orders-db");
@id("held") @approve("dba") @wait("30s")
permit (principal in Group::"readers", action == Action::"write", resource == Table::"orders-db/public.orders");
""")

PEOPLE = {"olga": ["operators"], "lou": ["lookers"], "dana": ["dba"], "nick": []}


class Api:
    def __init__(self, w):
        self.w, self.tokens = w, {name: w.gateway.token(f"{name}@corp.test", groups=groups) for name, groups in PEOPLE.items()}

    def headers(self, who):
        token = self.tokens.get(who, who)
        return {"content-type": "application/json", **({"authorization": "Bearer " + token} if token else {})}

    def ask(self, path, who=None, method="GET", body=None):
        """Status, JSON (or text) and headers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.w.gateway.control}{path}", headers=self.headers(who), method=method,
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text, status, headers = answer.read().decode(), answer.status, answer.headers
        except urllib.error.HTTPError as error:
            text, status, headers = error.read().decode(), error.code, error.headers
            check(headers["content-type"] == "application/problem+json", path, headers["content-type"], text)
        return status, json.loads(text) if text.startswith(("[", "{")) else text, headers

    def sessions(self, who):
        return self.ask("/api/v1/sessions?filter=live", who)[1]

    @contextlib.contextmanager
    def stream(self, path, who):
        """Server-sent events as they come: a list that grows."""
        wire = http.client.HTTPConnection("127.0.0.1", self.w.gateway.control, timeout=60)
        wire.request("GET", path, headers=self.headers(who))
        answer, events = wire.getresponse(), []
        check(answer.status == 200, answer.status)

        def read():
            name = None
            with contextlib.suppress(Exception):
                for line in answer:
                    line = line.decode().rstrip("\n")
                    if line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        events.append((name, json.loads(line[6:])))
            events.append(("closed", True))

        threading.Thread(target=read, daemon=True).start()
        try:
            yield events
        finally:
            wire.sock and wire.sock.close()


@contextlib.contextmanager
def api(w, **options):
    with w.own(policies=CONTROL, **options) as own:
        try:
            yield Api(own)
        finally:
            w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
            w.admin("DELETE FROM orders_log")


def seen(events, name, what=lambda data: True, seconds=10):
    return eventually(lambda: next((d for n, d in list(events) if n == name and what(d)), None), f"event `{name}`", seconds, 0.05)


def test_nobody_is_told_anything_without_a_token(w):
    with api(w) as a:
        document = a.ask("/api/v1/openapi.json")[1]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method == "parameters" or operation.get("security") == []:
                    continue
                for who in ["", "wrong"]:
                    status, problem, headers = a.ask(path.replace("{id}", "x"), who, method.upper(), {} if method == "post" else None)
                    check(status in (401, 429), method, path, who, status)
                    check(problem["status"] == status and problem["detail"], problem)
                    check(status == 429 or headers["www-authenticate"] == "Bearer")
        # What only the operator of the host may do is not there at all.
        for path in ["/api/v1/tokens", "/api/v1/reload"]:
            check(a.ask(path, "olga")[0] == 404, path)


def test_policy_says_who_sees_whose_sessions(w):
    with api(w) as a:
        wire = a.w.wire("reader")
        listed = a.sessions("olga")
        check(len(listed) == 1 and listed[0]["principal"]["subject"] == "alice@corp.test", listed)
        path = f"/api/v1/sessions/{listed[0]['id']}"
        check([one["id"] for one in a.sessions("lou")] == [listed[0]["id"]] and a.sessions("nick") == [])
        check(a.ask(path, "lou")[0] == 200 and a.ask(path, "nick")[0] == 404)
        for what in ["/events", "/transcript"]:
            check(a.ask(path + what, "lou")[0] == 403 and a.ask(path + what, "nick")[0] == 404, what)
        status, problem, _ = a.ask(path, "lou", "DELETE")
        check(status == 403 and problem["code"] == "denied" and problem["operation"] == "session-kill orders-db", problem)
        check(a.ask(path, "nick", "DELETE")[0] == 404, "who may not see is not told that it is there")
        check(query(wire, "SELECT 1")[1] == [], "it lives on")
        check(a.ask(path + "?reason=INC-9", "olga", "DELETE")[0] == 204)
        eventually(lambda: not a.sessions("olga"), "the session ended")
        done = a.w.rows("audit", "search", "--kind", "operator")
        told = [f"{row['principal']} {row['detail']}" for row in done]
        check(any("lou@corp.test refused session-kill orders-db" in text for text in told), told)
        check(any("olga@corp.test session kill" in text and text.endswith("INC-9") for text in told), told)


def test_a_session_is_watched_as_it_happens(w):
    with api(w) as a:
        wire = a.w.wire("reader")
        session = a.sessions("olga")[0]["id"]
        with a.stream(f"/api/v1/sessions/{session}/events", "olga") as events:
            check(seen(events, "session")["resource"] == "orders-db")
            query(wire, "SELECT id FROM orders ORDER BY id LIMIT 3")
            ran = seen(events, "operation", lambda d: "LIMIT 3" in d["statement"])
            check(ran["verdict"] == "allow" and ran["rules"] == ["readers-read"], ran)
            outcome = seen(events, "outcome", lambda d: d["ticket"] == ran["ticket"])
            check(outcome["rows"] == 3 and outcome["micros"] > 0, outcome)
            check(query(wire, "DROP TABLE orders")[1] == ["42501"])
            check(seen(events, "operation", lambda d: d["verdict"] == "deny")["statement"] == "DROP TABLE orders")
            wire.close()
            check(seen(events, "session_ended")["rows"] == 3)
            check(seen(events, "end")["code"] == "ended")
            seen(events, "closed")
        rows = a.ask(f"/api/v1/sessions/{session}/transcript", "olga")[1]
        check([r["verdict"] for r in rows if r["kind"] == "operation"] == ["allow", "deny"], rows)
        check(a.ask(f"/api/v1/sessions/{session}/events", "olga")[0] == 404, "it is over")


def test_who_watches_and_does_not_read_slows_nobody(w):
    with api(w) as a:
        wire = a.w.wire("reader", seconds=120)
        session = a.sessions("olga")[0]["id"]
        slow = http.client.HTTPConnection("127.0.0.1", a.w.gateway.control, timeout=60)
        slow.connect()
        slow.request("GET", f"/api/v1/sessions/{session}/events", headers=a.headers("olga"))
        started = time.monotonic()
        padding = "x" * 12_000
        for n in range(1200):
            check(query(wire, f"SELECT {n} /* {padding} */")[1] == [])
        check(time.monotonic() - started < 90, "the session was slowed")
        # It gets what was kept for it, and then why it gets no more.
        text = slow.getresponse().read().decode()
        last = text.strip().split("\n\n")[-1]
        check("event: end" in last and '"too_slow"' in last, last[-300:])
        check(text.count("event: operation") < 1200)


def test_a_stream_ends_with_its_token_and_with_its_permission(w):
    with api(w) as a:
        wire = a.w.wire("reader")
        session = a.sessions("olga")[0]["id"]
        a.tokens["brief"] = a.w.gateway.token("brief@corp.test", groups=["operators"], ttl="4s")
        path = f"/api/v1/sessions/{session}/events"
        with a.stream(path, "brief") as brief, a.stream(path, "olga") as olga:
            seen(olga, "session")
            check(seen(brief, "end", seconds=15)["code"] == "session_expired")
            check(not any(name == "end" for name, _ in olga))
            policies = a.w.gateway.dir / "policies" / "control.cedar"
            policies.write_text(policies.read_text().replace('Action::"session-watch",', ""))
            a.w.hang_up()
            check(seen(olga, "end", seconds=15)["code"] == "denied")
        check(query(wire, "SELECT 1")[1] == [])


def test_approvals_are_told_to_those_who_may_decide(w):
    with api(w) as a, a.stream("/api/v1/approvals/events", "dana") as dana, a.stream("/api/v1/approvals/events", "olga") as olga:
        wire = a.w.wire("reader", seconds=40)
        wire.held = None
        wire.exchange([rig.frame("Q", rig.cstr("UPDATE orders SET status = 'told' WHERE id = 7"))])
        approval = wire.held["approval"]["id"]
        told = seen(dana, "approval", lambda d: d["what"] == "opened")["approval"]
        check(told["id"] == approval and told["state"] == "open" and told["statement"] is None, told)
        check(a.ask(f"/api/v1/approvals/{approval}/approve", "dana", "POST", {})[0] == 200)
        check(seen(dana, "approval", lambda d: d["what"] == "approved")["approval"]["id"] == approval)
        seen(dana, "approval", lambda d: d["what"] == "used")
        check(not any(name == "approval" for name, _ in olga), olga)
        wire.until_ready()
        check(a.w.admin("SELECT status FROM orders WHERE id = 7")[0] == "told")


def test_the_trail_is_searched_as_far_as_policy_permits(w):
    with api(w) as a:
        wire = a.w.wire("reader")
        for n in range(5):
            query(wire, f"SELECT {n} AS needle")
        check(a.ask("/api/v1/audit?text=needle", "nick")[1] == [] and a.ask("/api/v1/audit?text=needle", "lou")[1] == [])
        eventually(lambda: len(a.ask("/api/v1/audit?text=needle", "olga")[1]) == 5, "what was tried is in the trail")
        got, path = [], "/api/v1/audit?text=needle&limit=2"
        while path:
            status, rows, headers = a.ask(path, "olga")
            check(status == 200 and len(rows) <= 2, status, rows)
            got = [row["statement"] for row in rows] + got
            link = headers["link"]
            path = link[1:link.index(">")] if link else None
        check(got == [f"SELECT {n} AS needle" for n in range(5)], got)
        # The gateway's own events are decided on `gateway`.
        check(a.ask("/api/v1/audit?kind=started", "olga")[1] == [])


def test_what_a_statement_would_do_is_told_to_those_who_administer(w):
    with api(w) as a:
        what = {"subject": "x", "groups": ["readers"], "resource": "orders-db", "place": w.database, "statement": "DROP TABLE orders"}
        check(a.ask("/api/v1/policy/explain", "lou", "POST", what)[0] == 403)
        check(a.ask("/api/v1/policy/explain", "olga", "POST", dict(what, resource="other-db"))[0] == 403)
        status, told, _ = a.ask("/api/v1/policy/explain", "olga", "POST", what)
        check(status == 200 and told["verdict"] == "deny" and told["operations"][0]["action"] == "define", told)


def test_it_refuses_what_is_too_much(w):
    with api(w) as a:
        check(a.ask("/api/v1/policy/explain", "olga", "POST", {"subject": "x" * 70_000})[0] == 413)
        check(a.ask("/api/v1/sessions?limit=100000", "olga")[0] == 400)
        # Guesses slow down; the one who was here before does not notice.
        check(a.ask("/api/v1/whoami", "olga")[0] == 200)
        statuses = {a.ask("/api/v1/whoami", f"guess{n}")[0] for n in range(40)}
        check(statuses == {401, 429}, statuses)
        check(a.ask("/api/v1/whoami", "olga")[1]["subject"] == "olga@corp.test")
        check(a.ask("/api/v1/whoami", method="OPTIONS")[0] == 405, "no preflight is answered")
