"""The web console in a real browser, in front of a statement that a real psql waits for."""
import contextlib, functools, http.server, os, pathlib, shutil, subprocess, threading, urllib.error, urllib.request

from browser import browser
from harness import Skipped, check, eventually

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "src" / "images"
IMAGE_BYTES = 150_000

POLICIES = {"all": """
@id("connect") permit (principal in Group::"oncall", action == Action::"connect", resource);
@id("read") permit (principal in Group::"oncall", action in [Action::"read", Action::"temp"], resource in Resource::"orders-db");
@id("sleep") permit (principal in Group::"oncall", action == Action::"call", resource == Function::"orders-db/pg_catalog.pg_sleep");
@id("orders-need-a-dba") @approve("dba") @expires("10m") @wait("60s")
permit (principal in Group::"oncall", action in [Action::"write", Action::"write-unbounded"], resource in Resource::"orders-db");
@id("operate") permit (principal in Group::"operators", action in [Action::"session-view", Action::"session-watch",
    Action::"session-kill", Action::"audit-search", Action::"administer"], resource);
"""}
PEOPLE = {"wanda": ["oncall"], "lena": ["oncall", "dba"], "dana": ["dba", "operators"]}


class Console:
    def __init__(self, w, b):
        self.w, self.b, self.base = w, b, f"http://127.0.0.1:{w.gateway.control}"
        self.tokens = {name: w.gateway.token(f"{name}@corp.test", groups=groups) for name, groups in PEOPLE.items()}

    def psql(self, who, *statements, reason="INC-2041: customer was charged twice"):
        """A psql that runs until its statements are through."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_"))}
        env = dict(clean, PGPASSWORD=self.tokens[who], PGOPTIONS=f"-c gateway.reason={reason.replace(' ', chr(92) + ' ')}",
                   PGAPPNAME="psql", PGSSLMODE="disable", PSQLRC="/dev/null", LC_ALL="C.UTF-8", HOME=str(self.w.scratch))
        arguments = [part for one in statements for part in ("-c", one)]
        return subprocess.Popen(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.w.port), "-U", f"{who}@orders-db",
                                 "-d", self.w.database, *arguments], env=env, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def go(self, path):
        self.b.go(self.base + path)

    def sign_in(self, who, path="/"):
        self.go(path)
        self.b.write("#token", self.tokens[who])
        self.b.click("main button")
        self.b.until(lambda: self.b.has("form.who"), f"{who} is signed in")

    def sign_out(self):
        self.b.click("form.who button")
        self.b.until(lambda: self.b.has("#token"), "signed out")

    def waits(self, operation):
        """The id of the open approval for it."""
        def probe():
            return [one["id"] for one in self.w.gateway.approvals(self.tokens["dana"]) if operation in one["operation"]]
        return eventually(probe, f"an approval of {operation}")[0]

    def state(self, approval):
        return next(one["state"] for one in self.w.gateway.approvals(self.tokens["dana"], None) if one["id"] == approval)

    def quiet(self):
        """Nothing was refused by the browser, least of all by the content policy."""
        complaints = self.b.complaints()
        check(complaints == [], complaints)


@contextlib.contextmanager
def console(w):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        raise Skipped("there is no chromium here; scripts/setup.sh test installs it")
    with w.own(policies=POLICIES) as own, browser(w.scratch) as b:
        try:
            yield Console(own, b)
        finally:
            w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
            w.admin("DELETE FROM orders_log")


@contextlib.contextmanager
def elsewhere(page):
    """Another site, that serves this page."""
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def w_approvals(c):
    return c.w.gateway.approvals(c.tokens["dana"])


UPDATE = "UPDATE orders SET status = 'refunded' WHERE id = 12 RETURNING id, status"


def test_a_held_statement_is_seen_approved_and_runs(w):
    with console(w) as c:
        b = c.b
        # Where a link leads one comes to once one has signed in.
        waiting = c.psql("lena", UPDATE)
        approval = c.waits("orders")
        c.sign_in("lena", f"/a/{approval}")
        check(b.address().endswith(f"/approvals/{approval}"), b.address())
        # Whoever asked is told why there is nothing to press, and what presses all the same is refused.
        check("another person" in b.text() and not b.has("button.approve"), b.text())
        b.script("""const form = document.createElement("form");
            form.method = "post"; form.action = arguments[0];
            form.append(document.querySelector("form.who input").cloneNode());
            document.body.append(form); form.submit();""", f"/approvals/{approval}/approve")
        b.until(lambda: "not permitted" in b.text() and "another person" in b.text(), "the refusal")
        check(c.state(approval) == "open")
        eventually(lambda: next(one["estimate"] for one in w_approvals(c) if one["id"] == approval), "an estimate")
        c.go(f"/approvals/{approval}")
        check("as the target guesses" not in b.text(), "an estimate is for those who decide", b.text())
        c.sign_out()
        # Somebody else decides, by keyboard alone.
        c.sign_in("dana")
        text = b.text()
        for seen in ("orders", "lena@corp.test", "INC-2041", "UPDATE orders SET status = 'refunded'", "Changes rows", "about 1 row", "orders-need-a-dba"):
            check(seen in text, seen, "is not in", text)
        check(text.index("UPDATE orders") < text.index("lena@corp.test"), "what it does comes before who asks")
        b.write(f"[id='{approval}-reason']", "looks right")
        b.press("\ue004")
        check(b.script("return document.activeElement.textContent") == "Approve", "Tab leads from the reason to the button")
        b.press("\ue007")
        b.until(lambda: b.address().endswith(f"/approvals/{approval}"), "the page of what was decided")
        out, err = waiting.communicate(timeout=20)
        check(waiting.returncode == 0 and out.split("\n")[0] == "12|refunded", out, err)
        c.go(f"/approvals/{approval}")
        check("looks right" in b.text() and "used" in b.text(), b.text())
        check(c.w.admin("SELECT status FROM orders WHERE id = 12") == ["refunded"])
        cookie = b.cookies()["gateway"]
        check(cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie)
        check(b.script("return document.cookie") == "", "scripts see the cookie")
        # A new one appears by itself, and is refused with a reason.
        c.go("/approvals")
        check("Nothing waits for you" in b.text(), b.text())
        b.until(lambda: b.text("#live").startswith("Live"), "the stream")
        waiting = c.psql("wanda", "UPDATE orders SET status = 'x'")
        b.until(lambda: "nothing limits the rows" in b.text(), "the new approval without a reload")
        b.write("#open textarea", "all of them?")
        b.click("button.deny")
        _, err = waiting.communicate(timeout=20)
        check(waiting.returncode != 0 and "all of them?" in err, err)
        c.quiet()


def test_a_session_is_watched_and_ended(w):
    with console(w) as c:
        b = c.b
        running = c.psql("wanda", "SELECT '<script>alert(1)</script>' AS planted", "SELECT pg_sleep(4)", "SELECT 7 AS seven", "SELECT pg_sleep(60)")
        c.sign_in("dana", "/sessions")
        b.until(lambda: c.go("/sessions") or "wanda@corp.test" in b.text(), "the session")
        b.click("tbody a")
        b.until(lambda: b.has("#events"), "its page")
        check("planted" in b.text() and "<script>" in b.text(), b.text())
        b.until(lambda: b.has("tr.new") and "SELECT 7 AS seven" in b.text(), "what happens, without a reload")
        b.click("a.deny")
        b.until(lambda: "End this session?" in b.text(), "the question")
        b.write("#reason", "it blocks the migration")
        b.click("button.deny")
        _, err = running.communicate(timeout=15)
        check(running.returncode != 0 and "57P01" in err or "terminat" in err or "ended" in err, err)
        c.go("/audit?kind=operator&search=yes")
        check("it blocks the migration" in b.text(), b.text())
        # Explained by the form.
        c.go("/policy")
        for field, text in {"subject": "wanda@corp.test", "groups": "oncall", "resource": "orders-db", "statement": "DELETE FROM orders"}.items():
            b.write("#" + field, text)
        b.click("main form .buttons button")
        b.until(lambda: "orders-need-a-dba" in b.text() and "hold" in b.text("h2"), "the explanation")
        c.quiet()


def test_another_site_does_nothing_with_the_cookie(w):
    with console(w) as c:
        b = c.b
        waiting = c.psql("wanda", UPDATE)
        approval = c.waits("orders")
        c.sign_in("dana")
        attack = (f'<form method="post" action="{c.base}/approvals/{approval}/approve"><input name="reason" value="x"></form>'
                  "<script>document.forms[0].submit()</script>")
        with elsewhere(attack) as port:
            # Another port of this address is of the same site, so the cookie comes along; another name is not.
            b.go(f"http://127.0.0.1:{port}/")
            b.until(lambda: "came from another site" in b.text(), "the refusal")
            b.go(f"http://localhost:{port}/")
            b.until(lambda: "came from another site" in b.text(), "the refusal of another site")
        with elsewhere(f'<script>location = "{c.base}/approvals"</script>') as port:
            b.go(f"http://127.0.0.1:{port}/")
            b.until(lambda: b.has("button.approve"), "the cookie comes along from the same site, or the attack shows nothing")
            b.go(f"http://localhost:{port}/")
            b.until(lambda: b.has("#token") and "Go on to" in b.text(), "it does not from another, and one can go on")
            b.click("main p a")
            b.until(lambda: b.has("button.approve"), "who goes on is signed in still")
        framed = f'<iframe src="{c.base}/approvals" width="900" height="600"></iframe>'
        with elsewhere(framed) as port:
            b.go(f"http://127.0.0.1:{port}/")
            eventually(lambda: any("frame-ancestors" in one or "X-Frame-Options" in one for one in b.complaints()), "the frame is refused")
        check(c.state(approval) == "open")
        c.go("/approvals")
        # The content policy is in force: this page runs no script but its own, and says so.
        b.script("const made = document.createElement('script'); made.textContent = 'window.planted = 1'; document.body.append(made);")
        check(b.script("return window.planted") is None, "a script of others ran")
        eventually(lambda: any("Content Security Policy" in one for one in b.complaints()), "the browser's complaint")
        # A name that leads here and is not the gateway's.
        request = urllib.request.Request(c.base + "/", headers={"host": f"evil.test:{c.w.gateway.control}"})
        try:
            urllib.request.urlopen(request, timeout=10)
            raise AssertionError("a foreign name was answered")
        except urllib.error.HTTPError as error:
            check(error.code == 421, error.code)
        # Signed out is signed out, also for who kept the cookie; and so is a token that is revoked.
        kept = b.cookies()["gateway"]["value"]
        ask = functools.partial(urllib.request.Request, c.base + "/approvals", headers={"cookie": f"gateway={kept}"})
        check(urllib.request.urlopen(ask(), timeout=10).status == 200)
        token = next(one["id"] for one in c.w.rows("token", "list") if one["subject"] == "dana@corp.test")
        c.w.cli("token", "revoke", token)
        b.until(lambda: c.go("/approvals") or b.has("#token"), "a revoked token opens no page any more", seconds=3)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(ask(), timeout=10)
            raise AssertionError("the cookie outlived its token")
        waiting.kill()
        waiting.communicate()


# Relative luminance and contrast as in WCAG 2, over every text of the page.
CONTRAST = """
const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; };
const colour = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => { for (let at = element; at; at = at.parentElement) {
  const c = colour(getComputedStyle(at).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
const bad = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) { const element = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest(".hidden, .skip")) continue;
  const [a, b] = [light(colour(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push([walk.currentNode.data.trim().slice(0, 40), Math.round(ratio * 100) / 100]); }
return bad;
"""


def test_pages_are_readable_in_both_colours_and_on_a_narrow_screen(w):
    with console(w) as c:
        b = c.b
        waiting = [c.psql("wanda", UPDATE), c.psql("wanda", "UPDATE orders SET status = 'closed'", reason="clean-up")]
        approval = c.waits("orders")
        eventually(lambda: len(c.w.gateway.approvals(c.tokens["dana"])) == 2, "two approvals")
        c.sign_in("dana")
        for path in ("/approvals", f"/approvals/{approval}", "/sessions", "/audit?search=yes", "/policy", "/access"):
            for scheme in ("light", "dark"):
                b.colours(scheme)
                c.go(path)
                check(b.script(CONTRAST) == [], path, scheme, b.script(CONTRAST))
            b.size(360, 740)
            wide = b.script("return document.documentElement.scrollWidth")
            check(wide <= 360, path, "is", wide, "wide")
            b.size(1280, 900)
            # Whoever sees nothing finds the way: one heading of the page, a name for every field, a scope for every head.
            check(b.script("return document.querySelectorAll('h1').length") == 1, path)
            nameless = b.script("return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
                                ".filter((one) => one.labels.length === 0).map((one) => one.name)")
            check(nameless == [], path, nameless)
            check(b.script("return [...document.querySelectorAll('th')].every((one) => one.scope)"), path)
        b.press("\ue004")
        c.go("/approvals")
        b.press("\ue004")
        check(b.script("return document.activeElement.className") == "skip", "the first Tab leads past the navigation")
        if getattr(w, "screenshots", False):
            IMAGES.mkdir(exist_ok=True)
            b.size(1100, 820)
            for scheme in ("light", "dark"):
                b.colours(scheme)
                c.go("/approvals")
                b.until(lambda: b.text("#live").startswith("Live"), "the stream")
                picture = b.picture()
                check(len(picture) < IMAGE_BYTES, len(picture))
                (IMAGES / f"console-{scheme}.png").write_bytes(picture)
        c.quiet()
        for one in waiting:
            one.kill()
            one.communicate()
