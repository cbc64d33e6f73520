"""kill -9 under load, again and again: the trail stays whole, and has what the target says it executed.

    run.py --gateway PATH --only kills --kill-rounds 100     the long one; without it a few rounds
"""
import json, pathlib, random, re, threading, time

from harness import check, query

WORKERS = 4
MARK = re.compile(r"/\* (kill \d+\.\d+\.\d+) \*/")
PREFIX = "L|%p|%u|%a|"


class Log:
    """What the server says it executed, statement by statement, with the application that asked for it."""

    def __init__(self, w):
        self.w, self.path = w, pathlib.Path(w.server.dir) / "server.log"

    def __enter__(self):
        for sql in [f"ALTER SYSTEM SET log_line_prefix = '{PREFIX}'", "ALTER SYSTEM SET log_statement = 'all'"]:
            self.w.admin(sql)
        self.w.admin("SELECT pg_reload_conf()")
        time.sleep(0.3)
        self.start = self.path.stat().st_size
        return self

    def __exit__(self, *_):
        for sql in ["ALTER SYSTEM RESET log_statement", "ALTER SYSTEM RESET log_line_prefix"]:
            self.w.admin(sql)
        self.w.admin("SELECT pg_reload_conf()")

    def statements(self):
        """(application, text) of every statement since the start; texts over several lines are joined."""
        with open(self.path, encoding="utf-8", errors="replace") as log:
            log.seek(self.start)
            lines = log.read().splitlines()
        found = []
        for line in lines:
            parts = line.split("|", 4)
            if line.startswith("L|") and len(parts) == 5:
                said = re.match(r"LOG:  (?:statement|execute [^:]*): (.*)", parts[4])
                found.append([parts[3], said.group(1)] if said else None)
            elif found and found[-1] and line.startswith("\t"):
                found[-1][1] += "\n" + line[1:]
        return [tuple(f) for f in found if f]


def worker(own, turn, number, stop, busy):
    """Writes and reads, each statement with a mark of its own, until the gateway is gone."""
    try:
        wire = own.wire("writer", seconds=20)
        for n in range(1_000_000):
            if stop.is_set():
                return
            mark = f"/* kill {turn}.{number}.{n} */"
            refused = query(wire, f"UPDATE tickets SET subject = 'k' WHERE id = {number + 1} {mark}" if n % 2
                            else f"SELECT id FROM orders WHERE id = {number + 1} {mark}")[1]
            if refused:
                return
            busy.set()
    except Exception:  # the gateway was killed, as it should be
        return


def audited(own):
    """The marks of all operations that the trail says were let through, and how many records it has."""
    marks, records = set(), 0
    for segment in sorted((own.gateway.dir / "data" / "audit").glob("audit-*.jsonl")):
        for line in segment.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                continue
            records += 1
            event = json.loads(line)["event"]
            if event["type"] == "operation" and event["verdict"] == "allow":
                marks.update(MARK.findall(event.get("statement") or ""))
    return marks, records


def play(w, rounds, mode):
    """`rounds` kills of a gateway with this key of `[audit]`; what the server executed and the trail has not, by mark."""
    sections = f"[audit]\ncheckpoint_records = 50\nsegment_bytes = 200000\n{mode}\n"
    with Log(w) as log, w.own(sections=sections) as own:
        own.token("writer")
        for turn in range(rounds):
            stop, busy = threading.Event(), [threading.Event() for _ in range(WORKERS)]
            workers = [threading.Thread(target=worker, args=(own, turn, n, stop, busy[n]), daemon=True)
                       for n in range(WORKERS)]
            for thread in workers:
                thread.start()
            check(all(event.wait(20) for event in busy), f"round {turn}: not every client got to work")
            time.sleep(random.uniform(0, 0.3))
            own.kill()
            stop.set()
            for thread in workers:
                thread.join(20)
            done = own.cli("audit", "verify", ok=False)
            check(done.returncode == 0, f"round {turn}, before the restart:", done.stdout, done.stderr)
            own.gateway.start()
        time.sleep(0.5)  # what the server still ran for the killed ones
        done = own.cli("audit", "verify")
        check(f"told of: {rounds}" in done.stdout, "every kill is told of as an end that was not in order:", done.stdout)
        said = [(app, text) for app, text in log.statements() if app.startswith("gateway/")]
        marks, records = audited(own)
    executed = {mark: text for _, text in said for mark in MARK.findall(text)}
    unmarked = {text for _, text in said if not MARK.search(text)}
    check(len(executed) > rounds * 5, "too little was executed to say anything:", len(executed))
    print(f"       {mode or 'default'}: {rounds} kills, {len(executed)} statements executed, {records} records; "
          f"beside them, for the gateway itself: {[text[:60] for text in sorted(unmarked)[:3]]}", flush=True)
    check(not [t for t in unmarked if "tickets" in t or "orders" in t], "statements that nobody sent:", unmarked)
    return {mark: text for mark, text in executed.items() if mark not in marks}


def test_kills_under_load_lose_nothing_that_was_executed(w):
    missing = play(w, w.kill_rounds, 'mode = "durable"')
    check(not missing, "executed, and not in the trail:", list(missing.items())[:5])


def test_kills_under_load_lose_nothing_where_what_is_batched_is_written_first(w):
    missing = play(w, max(4, w.kill_rounds // 2), 'batched = "written"')
    check(not missing, "executed, and not in the trail:", list(missing.items())[:5])


def test_kills_under_load_lose_no_write_where_reads_are_batched(w):
    missing = play(w, max(3, w.kill_rounds // 2), "")
    writes = {mark: text for mark, text in missing.items() if text.startswith("UPDATE")}
    check(not writes, "executed, and not in the trail:", list(writes.items())[:5])
    if missing:
        print(f"       {len(missing)} reads were executed within the last moments before a kill and are not in the trail")
    w.admin("UPDATE tickets SET subject = 'subject ' || id")
