"""A headless Chromium, driven by WebDriver (https://www.w3.org/TR/webdriver2/) over HTTP: nothing but the driver is needed."""
import base64, contextlib, json, shutil, subprocess, tempfile, time, urllib.error, urllib.request

from common import free_port, wait_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class NoElement(AssertionError):
    """There is no such element on the page."""


class Browser:
    def __init__(self, scratch):
        self.home = tempfile.mkdtemp(prefix="browser-", dir=scratch)
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        if not wait_port(self.port, 20, lambda: self.driver.poll() is None):
            raise AssertionError("chromedriver does not listen")
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900",
                     "--disable-background-networking", "--no-first-run", f"--user-data-dir={self.home}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}}, root=True)
        self.session = made["sessionId"]

    def ask(self, method, path, body=None, root=False):
        address = f"http://127.0.0.1:{self.port}" + ("" if root else f"/session/{self.session}") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())["value"]
            if told["error"] == "no such element":
                raise NoElement(told["message"].splitlines()[0]) from None
            raise AssertionError(f"{method} {path}: {told['error']}: {told['message']}") from None

    def close(self):
        with contextlib.suppress(Exception):
            self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- pages ----

    def go(self, address):
        self.ask("POST", "/url", {"url": address})

    def address(self):
        return self.ask("GET", "/url")

    def title(self):
        return self.ask("GET", "/title")

    def text(self, selector="main"):
        return self.ask("GET", f"/element/{self.find(selector)}/text")

    def find(self, selector):
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def has(self, selector):
        try:
            return bool(self.find(selector))
        except NoElement:
            return False

    def click(self, selector):
        self.ask("POST", f"/element/{self.find(selector)}/click", {})

    def write(self, selector, text):
        self.ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, *keys):
        """Keys, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": steps}]})

    def script(self, text, *arguments):
        return self.ask("POST", "/execute/sync", {"script": text, "args": list(arguments)})

    def until(self, probe, what, seconds=10.0):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                got = probe()
                if got:
                    return got
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {seconds:.0f} s; {self.address()}: {self.text('body')[:600]!r}")
            time.sleep(0.1)

    # ---- what the browser says and shows ----

    def complaints(self):
        """What the browser has logged since the last call, but that an answer was no success."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", {"type": "browser"})
                if "Failed to load resource: the server responded with a status of" not in entry["message"]]

    def cookies(self):
        return {one["name"]: one for one in self.ask("GET", "/cookie")}

    def command(self, name, **arguments):
        """A command of the DevTools protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": name, "params": arguments})

    def colours(self, scheme):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width, height):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self):
        return base64.b64decode(self.ask("GET", "/screenshot"))


@contextlib.contextmanager
def browser(scratch):
    made = Browser(scratch)
    try:
        yield made
    finally:
        made.close()
