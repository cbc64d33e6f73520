"""Slack: what waits is told with buttons, and who presses one decides as the gateway token that stands for them."""
import contextlib, hashlib, hmac, http.server, json, os, threading, time, urllib.error, urllib.parse, urllib.request

from harness import check, eventually
from test_approvals import PEOPLE, POLICIES, UPDATE, Office, finish, send

SIGNING, BOT = "slack-signing-Heron-77", "xoxb-Heron-1"


class Slack:
    """Slack's side: takes messages and answers, and presses buttons."""

    def __init__(self):
        self.posted, self.answered, slack = [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/api/chat.postMessage":
                    slack.posted.append((self.headers["authorization"], document))
                else:
                    slack.answered.append((self.path, document))
                body = b'{"ok":true}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def payload(self, user, action, value, response_url=None):
        return {"type": "block_actions", "user": {"id": user}, "actions": [{"action_id": action, "value": value}],
                "response_url": response_url or f"http://127.0.0.1:{self.port}/respond"}

    def press(self, o, user, action, value, at=None, secret=SIGNING, response_url=None, body=None, signature=None):
        """The status of the gateway's answer."""
        at = str(int(time.time()) if at is None else at)
        if body is None:
            body = urllib.parse.urlencode({"payload": json.dumps(self.payload(user, action, value, response_url))}).encode()
        if signature is None:
            signature = "v0=" + hmac.new(secret.encode(), b"v0:" + at.encode() + b":" + body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(f"http://127.0.0.1:{o.w.gateway.control}/slack/interactions", body, {
            "X-Slack-Request-Timestamp": at, "X-Slack-Signature": signature,
            "Content-Type": "application/x-www-form-urlencoded"})
        try:
            return urllib.request.urlopen(request, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    def answer(self, seconds=8):
        return eventually(lambda: self.answered and self.answered.pop(0)[1], "Slack was told nothing", seconds)


@contextlib.contextmanager
def chat(w):
    slack = Slack()
    os.environ.update(SLACK_SIGNING=SIGNING, SLACK_BOT=BOT)
    section = f"""
[notify.slack]
token = {{ env = "SLACK_BOT" }}
signing_secret = {{ env = "SLACK_SIGNING" }}
channel = "C042"
include = "statement"
api_url = "http://127.0.0.1:{slack.port}/api"
"""
    try:
        with w.own(policies=POLICIES, sections=section + "#users\n", start=False) as own:
            o, users = Office(own), {}
            for slack_id, who in (("U0DANA", "dana"), ("U0LENA", "lena"), ("U0NICK", "nick")):
                o.token(who)
                listed = json.loads(own.cli("token", "list", "--output", "json").stdout)
                users[slack_id] = next(t["id"] for t in listed if t["subject"] == PEOPLE[who][0])
            text = own.gateway.config.read_text()
            lines = "\n".join(f'{slack_id} = "{token}"' for slack_id, token in users.items())
            own.gateway.config.write_text(text.replace("#users\n", f"[notify.slack.users]\n{lines}\n"))
            own.gateway.start()
            o.users = users
            try:
                yield slack, o
            finally:
                w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
                w.admin("DELETE FROM orders_log")
            check(SIGNING not in own.log() and BOT not in own.log(), "a secret is in the log")
            shown = own.gateway.cli("config", "show").stdout
            check(SIGNING not in shown and BOT not in shown and "C042" in shown, shown)
    finally:
        del os.environ["SLACK_SIGNING"], os.environ["SLACK_BOT"]
        slack.server.shutdown()
        slack.server.server_close()


def test_a_button_decides_as_the_token_that_stands_for_who_pressed_it(w):
    with chat(w) as (slack, o):
        wire = o.wire("lena", options="-c gateway.reason=<!channel>")
        approval = send(wire, UPDATE.format("zeppelin", 1))
        bearer, message = eventually(lambda: slack.posted and slack.posted[0], "nothing was posted")
        check(bearer == f"Bearer {BOT}" and message["channel"] == "C042", bearer, message)
        text = json.dumps(message)
        check("zeppelin" in text and "lena@corp.test" in text, text)
        elements = message["blocks"][-1]["elements"]
        check([(e["action_id"], e["value"]) for e in elements[:2]] == [("approve", approval), ("deny", approval)], elements)
        # Who asked does not decide, nor who is in no group, nor who is not known here.
        check(slack.press(o, "U0LENA", "approve", approval) == 200)
        told = slack.answer()
        check("another person" in told["text"] and told["response_type"] == "ephemeral", told)
        check(slack.press(o, "U0NICK", "approve", approval) == 200)
        check("only members of dba" in slack.answer()["text"])
        check(slack.press(o, "U0NOBODY", "approve", approval) == 200)
        check("not among" in slack.answer()["text"])
        check(o.state(approval)["state"] == "open")
        check(slack.press(o, "U0DANA", "approve", approval) == 200)
        told = slack.answer()
        check(told["replace_original"] and "approved by dana@corp.test" in told["text"], told)
        check(finish(wire) == [], wire.errors)
        shown = o.state(approval)
        check(shown["state"] == "used" and shown["decisions"][0]["by"] == "dana@corp.test", shown)
        eventually(lambda: any("approval.decided" in m["text"] for _, m in slack.posted), "the decision was not posted")
        check(slack.press(o, "U0DANA", "deny", approval) == 200)
        check("already" in slack.answer()["text"])


def test_whoever_is_not_slack_decides_nothing(w):
    with chat(w) as (slack, o):
        approval = send(o.wire("wanda"), UPDATE.format("x", 2))
        now = int(time.time())
        check(slack.press(o, "U0DANA", "approve", approval, secret="wrong") == 401)
        check(slack.press(o, "U0DANA", "approve", approval, at=now - 400) == 401)
        check(slack.press(o, "U0DANA", "approve", approval, at=now + 400) == 401)
        check(slack.press(o, "U0DANA", "approve", approval, signature="v0=" + "0" * 64) == 401)
        check(slack.press(o, "U0DANA", "approve", approval, signature="") == 401)
        check(slack.press(o, "U0DANA", "approve", approval, at="nan") == 401)
        # What is Slack's and leads elsewhere, or is no button.
        for elsewhere in ("http://169.254.169.254/x", "https://hooks.slack.com.evil.example/x", "https://hooks.slack.com@evil.example/",
                          "http://hooks.slack.com/x", "file:///etc/passwd"):
            check(slack.press(o, "U0DANA", "approve", approval, response_url=elsewhere) == 400, elsewhere)
        check(slack.press(o, "U0DANA", "approve", approval, body=b"payload=%7B%7D") == 400)
        check(slack.press(o, "U0DANA", "approve", approval, body=b"") == 400)
        check(o.state(approval)["state"] == "open")
        # The same request a second time.
        body = urllib.parse.urlencode({"payload": json.dumps(slack.payload("U0NICK", "approve", approval))}).encode()
        check(slack.press(o, None, None, None, body=body, at=now) == 200)
        check(slack.press(o, None, None, None, body=body, at=now) == 401)
        slack.answer()
        check(slack.answered == [] and o.state(approval)["state"] == "open")


def test_a_revoked_token_decides_nothing_in_slack_either(w):
    with chat(w) as (slack, o):
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("x", 3))
        check(o.w.gateway.cli("token", "revoke", o.users["U0DANA"]).returncode == 0)
        check(slack.press(o, "U0DANA", "approve", approval) == 200)
        check("revoked" in slack.answer()["text"])
        check(o.state(approval)["state"] == "open")
