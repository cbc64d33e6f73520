#!/usr/bin/env python3
"""Searches for tagged values that get past the gateway's masks, and for answers that depend on them.

    run.py --gateway PATH [--queries N] [--seed S] [--only MODE] [--sql TEXT [--only MODE]]

Random statements run directly, as one who may unmask everything, and as one who may not. The latter may see no planted
value in any byte, and must get the same bytes from two databases that differ in the secret part of the tagged values.
The one who may unmask must get what the server gives. Exit status 1 where any of it does not hold.
"""
import argparse, collections, pathlib, re, signal, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import grammar, sessions, world  # noqa: E402
from answers import TOKEN, bare, cells, codes, normal  # noqa: E402
from world import rig  # noqa: E402

SETTINGS = ["DateStyle = 'SQL, DMY'", "DateStyle = 'German'", "bytea_output = 'escape'", "xmlbinary = 'hex'", "TimeZone = 'Asia/Tokyo'",
            "IntervalStyle = 'iso_8601'", "enable_hashjoin = on", "client_encoding = 'LATIN1'", "standard_conforming_strings = on"]


CODE = re.compile(rb"@code(\d)@" + b"_" * (world.CODE_WIDTH - 7))


def padded(sql):
    """Room for a token in the place of each `@code3@`, so that a frame's length stays right."""
    return re.sub(r"@code\d@(?!_)", lambda found: found[0].ljust(world.CODE_WIDTH, "_"), sql)


def q(sql):
    sql = padded(sql)
    return [rig.frame("Q", rig.cstr(sql))]


def batches(mode, sql, tape):
    """The messages that send a statement; the choices are on the tape."""
    def parse(name=""):
        return rig.frame("P", rig.cstr(name) + rig.cstr(padded(sql)) + b"\0\0")

    def bind(name="", binary=False):
        return rig.frame("B", b"\0" + rig.cstr(name) + b"\0\0\0\0" + (b"\0\1\0\1" if binary else b"\0\0"))

    def execute(rows=0):
        return rig.frame("E", b"\0" + rig.struct.pack("!I", rows))

    sync, describe = rig.frame("S", b""), rig.frame("D", b"P\0")
    if mode in ("extended", "binary"):
        return [[parse(), bind(binary=mode == "binary"), describe, execute(), sync]]
    if mode == "portal":
        return [q("BEGIN"), [parse(), bind(), describe, execute(2), sync], [execute(1), sync], [execute(), sync], q("ROLLBACK")]
    if mode == "prepared":
        binary = tape.chance(50)
        return [[parse("s1"), rig.frame("D", b"Ss1\0"), sync], [bind("s1", binary), execute(), sync], [bind("s1"), execute(), sync],
                [rig.frame("C", b"Ss1\0"), sync]]
    if mode == "copy":
        return [q(f"COPY ({sql}) TO STDOUT{tape.pick(['', ' (FORMAT csv, HEADER)', ' (FORMAT binary)', ' (FORMAT csv, FORCE_QUOTE *)'])}")]
    if mode == "cursor":
        kind = tape.pick(["", "BINARY ", "SCROLL ", "INSENSITIVE "])
        return [q("BEGIN"), q(f"DECLARE k {kind}CURSOR FOR {sql}"), q("FETCH 2 FROM k"), q(tape.pick(["FETCH ALL FROM k", "MOVE ALL FROM k"])),
                q("FETCH BACKWARD 1 FROM k") if kind == "SCROLL " else q("CLOSE k"), q("ROLLBACK")]
    if mode == "execute":
        batches.number += 1  # one that is left over in an aborted transaction must not be executed later
        p = f"p{batches.number}"
        return [q(f"PREPARE {p} AS {sql}"), q(f"EXECUTE {p}"), q(f"EXECUTE {p}"), q(f"DEALLOCATE {p}")]
    if mode == "change":
        return [q("BEGIN"), [parse(), bind(), describe, execute(), sync] if tape.chance(40) else q(sql),
                q(tape.pick(["SELECT id, email FROM scratch", "SELECT label FROM scratch", "SELECT id FROM scratch WHERE email = 'm'"])), q("ROLLBACK")]
    if mode == "explain":
        return [q("EXPLAIN " + tape.pick(["", "(VERBOSE) ", "(COSTS OFF, FORMAT json) ", "(ANALYZE, TIMING OFF, SUMMARY OFF) "]) + sql)]
    if mode == "temp":
        batches.number += 1  # a name keeps its tags for the session
        kept = f"kept{batches.number}"
        made = tape.pick([f"TABLE {kept} AS", f"TABLE {kept} AS", f"TABLE {kept} (a) AS"])
        name = "a" if "(a)" in made else tape.pick(["c1", "c1", "email", "c2"])
        use = tape.pick([f"SELECT * FROM {kept}", f"SELECT {kept}::text FROM {kept}", f"SELECT count(*) FROM {kept}", f"TABLE {kept}", f"SELECT {name} FROM {kept}",
                         f"SELECT count(*) FROM {kept} WHERE {name} = {name}", f"SELECT {name}, count(*) FROM {kept} GROUP BY {name}",
                         f"SELECT count(DISTINCT {name}) FROM {kept}", f"SELECT {name} IS NULL FROM {kept}", f"SELECT max({name}) FROM {kept}",
                         f"SELECT count({name}) FROM {kept}", f"SELECT count(*) FROM {kept} WHERE {name} < {name}"])
        return [q("BEGIN"), q(f"CREATE TEMP {made} {sql}"), q(use), q("ROLLBACK")]
    if mode == "settings":
        return [q("BEGIN"), q(f"SET LOCAL {tape.pick(SETTINGS)}"), [parse(), bind(), describe, execute(), sync] if tape.chance(40) else q(sql), q("ROLLBACK")]
    if mode == "multi":
        return [q(f"SELECT 1 AS one; {sql}; SELECT count(*) FROM free")]
    return [q(sql)]


batches.number = 0


class Lab:
    """Server, gateway and the four connections."""

    def __init__(self, binary, keep):
        self.server = world.Server()
        self.gateway = None
        try:
            self.server.start()
            self.gateway = world.gateway(self.server, binary, keep)
            self.tokens = {who: self.gateway.token(f"{who}@corp.test", groups=groups)
                           for who, groups in (("masked", ["shut"]), ("free", ["open"]))}
        except BaseException:
            self.stop()
            raise
        self.wires, self.codes = {}, {}

    def stop(self):
        if self.gateway:
            self.gateway.stop()
        self.server.stop()

    def wire(self, side):
        if side not in self.wires or self.wires[side].closed:
            who, at = side.split(" ")
            database = world.DATABASES["abc".index(at)]
            if who == "direct":
                made = world.Wire(self.server.port).login("app", self.server.names["password"], database)
            else:
                made = world.Wire(self.gateway.port).login(f"{who}@canary-db", self.tokens[who], database)
            self.wires[side] = made
        return self.wires[side]

    def run(self, side, messages):
        """(messages that came, what is wrong with the session or None)."""
        wire = self.wire(side)
        if any(b"@code" in message for batch in messages for message in batch):
            known = self.sent(side)
            messages = [[CODE.sub(lambda found: known[int(found[1])], message) for message in batch] for batch in messages]
        try:
            got = wire.run(messages)
            if wire.closed:
                return got, "the session was lost"
            return got, None
        except rig.Hang:
            wire.close()
            got = wire.got
            del self.wires[side]
            return got, "it hangs"

    def sent(self, side):
        """What this one sees as the codes: values or tokens."""
        who = side
        if who not in self.codes:
            wire = self.wire(side)
            got = wire.run([q("SELECT code FROM ev ORDER BY id")])
            self.codes[who] = [cells(body)[0].ljust(world.CODE_WIDTH) for tag, body in got if tag == "D"]
        return self.codes[who]

    def judge_session(self, steps):
        """One session on connections of its own: only what must never be seen counts."""
        seen, wrong = [], []
        for side in ("masked a", "masked b"):
            self.wires.pop(side, None)
            got, trouble = self.run(side, [q(step) for step in steps])
            if side in self.wires:
                self.wires.pop(side).close()
            if trouble:
                wrong.append(("session", trouble))
            bad = [c for c in codes(got) if c in ("08P01", "XX000", "57P01")]
            if bad:
                wrong.append(("code", bad[0]))
            for _, body in got:
                for name in self.server.secrets[len(seen)].found(TOKEN.sub(b"", body))[:1]:
                    wrong.append(("canary", f"{name}: {text([('D', body)])[:200]}"))
            seen.append(normal(got))
        if seen[0] != seen[1]:
            first = next(((x, y) for x, y in zip(*seen) if x != y), ("", ""))
            wrong.append(("inference", f"A {show(first[0])}   B {show(first[1])}"))
        return "refused" if any("42501" in codes([m]) for m in seen[0] if m[0] == "E") else "masked", wrong

    def judge(self, sql, mode, tape, query=None, columns=None):
        """(class of the outcome, [(oracle, what was seen)])."""
        messages = batches(mode, sql, tape)
        if ("scratch" in sql or "INTO TEMP" in sql or "note" in sql) and messages[0] != q("BEGIN"):  # what changes is undone
            messages = [q("BEGIN"), *messages, q("ROLLBACK")]
        direct, trouble = self.run("direct a", messages)
        if trouble or "57014" in codes(direct):
            return "skipped", []
        wrong = []
        masked, trouble = self.run("masked a", messages)
        if trouble:
            wrong.append(("session", f"masked: {trouble}"))
        free, trouble = self.run("free a", messages)
        if trouble:
            wrong.append(("session", f"free: {trouble}"))
        other, trouble = self.run("masked b", messages)
        refused = "42501" in codes(masked)
        bad = [c for c in codes(masked) + codes(free) + codes(other) if c in ("08P01", "XX000", "57P01", "58000", "0A000")
               and c not in codes(direct)]
        if bad:
            wrong.append(("code", f"{bad[0]} {text(masked)[:300]}"))
        for got, secrets in ((masked, self.server.secrets[0]), (other, self.server.secrets[1])):
            for _, body in got:
                for name in secrets.found(TOKEN.sub(b"", body))[:1]:
                    wrong.append(("canary", f"{name}: {text([(_, body)])[:200]}"))
        left, right = normal(masked), normal(other)
        if mode == "explain" and "scratch" in sql:
            pass  # its size on disk grows by what is undone
        elif left != right:
            first = next(((x, y) for x, y in zip(left, right) if x != y), (left[-1:], right[-1:]))
            third = normal(self.run("masked c", messages)[0])
            # The third has the first's order: what is equal there depends on the order alone.
            wrong.append(("inference" if left != third else "inference by order", f"A {show(first[0])}   B {show(first[1])}"))
        elif normal(masked, True) != normal(other, True):
            wrong.append(("order", "the same rows come in another order"))
        if "@code" in sql:
            return "refused" if refused else "masked", wrong
        known = not any(code.startswith("42") for code in codes(direct)[:1])  # else the gateway may find other words
        if mode != "explain" and known and bare(free) != bare(direct):
            kind = "refused" if "42501" in codes(free) and "42501" not in codes(direct) else "differs"
            first = next(((x, y) for x, y in zip(bare(direct), bare(free)) if x != y), ("", ""))
            note = hint(free) if kind == "refused" else f"direct {show(first[0])}   gateway {show(first[1])}"
            wrong.append((f"unmasked {kind}", note))
        if known and query is not None and not query.tagged and mode not in ("explain",) and bare(masked) != bare(direct):
            if "42501" not in codes(direct) and not any(o.startswith("unmasked") for o, _ in wrong):
                wrong.append(("untagged " + ("refused" if refused else "differs"), hint(masked)))
        if not refused and mode not in ("explain", "copy") and [x for x in bare(masked) if x[0] not in "Dd"] != [x for x in bare(direct) if x[0] not in "Dd"]:
            first = next(((x, y) for x, y in zip([x for x in bare(direct) if x[0] not in "D"], [x for x in bare(masked) if x[0] not in "D"]) if x != y), ("", ""))
            wrong.append(("shape", f"direct {show(first[0])}   gateway {show(first[1])}"))
        if not refused and columns and mode in ("simple", "extended", "binary", "portal"):
            rows = [[cells(body) for tag, body in got if tag == "D"] for got in (direct, masked)]
            for at, column in enumerate(columns):
                if not column[2] and [r[at:at + 1] for r in rows[0]] != [r[at:at + 1] for r in rows[1]]:
                    wrong.append(("untagged masked", f"column {column[0]}"))
                    break
        compared = ("unmasked differs", "untagged differs", "untagged masked", "shape")
        if any(oracle in compared for oracle, _ in wrong) and bare(self.run("direct a", messages)[0]) != bare(direct):
            # Groups without an order come as a plan gives them, and statistics that are gathered meanwhile change it.
            wrong = [(oracle, said) for oracle, said in wrong if oracle not in compared]
        kind = ("refused" if refused else "error" if codes(direct) else "free" if bare(masked) == bare(direct) else "masked")
        return kind, wrong


def text(got):
    return " ".join(tag + " " + body.decode("utf-8", "replace").replace("\0", " ") for tag, body in got)


def show(message):
    if not message:
        return "nothing"
    message = message[0] if isinstance(message, list) else message
    return repr(message[0] + " " + message[1].decode("utf-8", "backslashreplace").replace("\0", "."))[:260]


def hint(got):
    for tag, body in got:
        if tag == "E":
            found = {chr(f[0]): f[1:].decode("utf-8", "replace") for f in body.split(b"\0") if f}
            if found.get("C") == "42501":
                return (found.get("M", "") + " | " + found.get("H", ""))[:300]
    return text(got)[:200]


def attempt(lab, numbers=None, seed=None, only=None):
    """One statement from a tape; returns (tape, mode, sql, query, kind, wrong)."""
    tape = grammar.Tape(seed, numbers)
    if only == "session" or (only is None and tape.chance(8)):
        steps = sessions.session(tape)
        return tape, "session", " ;; ".join(steps), grammar.Query(grammar.Tape(numbers=[])), *lab.judge_session(steps)
    mode, sql, query, columns = grammar.statement(tape, only)
    kind, wrong = lab.judge(sql, mode, tape, query, columns)
    return tape, mode, sql, query, kind, wrong


def smaller(lab, drawn, oracle, only, rounds=120):
    """A short tape that still shows the same oracle broken."""
    best, tried, until = list(drawn), 0, time.monotonic() + (4 if smaller.spent < 60 else 0)
    smaller.spent += 4

    def holds(numbers):
        try:
            return any(o == oracle for o, _ in attempt(lab, numbers, only=only)[5])
        except (RuntimeError, rig.Refused):
            return False
    size = max(len(best) // 2, 1)
    while size and tried < rounds and time.monotonic() < until:
        at = 0
        while at < len(best) and tried < rounds and time.monotonic() < until:
            for candidate in (best[:at] + best[at + size:], best[:at] + [0] * min(size, len(best) - at) + best[at + size:]):
                tried += 1
                if candidate != best and holds(candidate):
                    best = candidate
                    break
            else:
                at += size
        size //= 2
    return best


smaller.spent = 0  # seconds at most


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, help="the gateway's binary")
    ask.add_argument("--queries", type=int, default=300)
    ask.add_argument("--seed", type=int, default=1, help="the first one; each statement has its own")
    ask.add_argument("--only", choices=[*grammar.MODES, "session"], help="only this way of sending")
    ask.add_argument("--sql", action="append", help="judge these statements instead")
    ask.add_argument("--corpus", choices=["first", "only", "no"], default="first", help="the written statements of corpus.txt")
    ask.add_argument("--tolerate", action="append", default=["order", "inference by order"],
                     help="oracles whose findings do not fail the run; the orders that PostgreSQL gives to groups are such")
    ask.add_argument("--shown", type=int, default=20, help="most findings that are made smaller, per oracle")
    ask.add_argument("--verbose", action="store_true", help="what became of each written statement")
    ask.add_argument("--parts", type=int, default=25, help="of a hundred statements about parts of JSON, tokens and what is found")
    ask.add_argument("--keep", action="store_true")
    args = ask.parse_args()
    grammar.statement.parts = args.parts
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    lab = Lab(args.gateway, args.keep)
    counts, found, broken = collections.defaultdict(collections.Counter), {}, collections.Counter()
    try:
        for sql in args.sql or []:
            if ";;" in sql:
                print(*lab.judge_session(sql.split(";;")), sql, sep="\n  ")
                continue
            kind, wrong = lab.judge(sql, args.only or "simple", grammar.Tape(numbers=[]))
            print(f"{kind}: {sql}", *[f"  {o}: {w}" for o, w in wrong], sep="\n")
            print("   ", text(lab.wires["masked a"].got)[:400], "\n   ", text(lab.wires["direct a"].got)[:200])
        written = (HERE / "corpus.txt").read_text().splitlines() if args.corpus != "no" and not args.sql else []
        modes = [args.only] if args.only else ["simple"]
        for mode, line in [(mode, line) for line in written for mode in modes]:
            sign, sql = (line[0], line[2:]) if line[0] in "!=" else ("", line)
            kind, wrong = lab.judge_session(sql.split(" ;; ")) if " ;; " in sql else lab.judge(sql, mode, grammar.Tape(seed=1))
            counts["written"][kind] += 1
            for oracle, said in wrong:
                if sign == "!" and oracle.startswith("unmasked"):  # nobody may do this
                    continue
                if sign == "=" and "order" in oracle:  # here the order is the answer
                    oracle = "inference"
                broken[oracle] += 1
                if (oracle, sql) not in found:
                    found[oracle, sql] = 1
                    print(f"{oracle.upper()} written {mode}: {sql}\n    {said}", flush=True)
            if args.verbose:
                print(f"{kind:8} {sql}")
        if args.corpus == "only":
            args.queries = 0
        for seed in range(args.seed, args.seed + args.queries) if not args.sql else []:
            tape, mode, sql, query, kind, wrong = attempt(lab, seed=seed, only=args.only)
            counts[mode][kind] += 1
            if args.verbose:
                print(f"{kind:8} {mode}: {sql}")
            for feature in query.features:
                counts["with " + feature][kind] += 1
            for oracle, _ in wrong:
                broken[oracle] += 1
            for oracle in {o for o, _ in wrong}:
                shown = sum(1 for o, _ in found if o == oracle)
                if shown >= args.shown:
                    continue
                numbers = smaller(lab, tape.drawn, oracle, args.only)
                _, mode_, sql_, _, _, wrong_ = attempt(lab, numbers, only=args.only)
                said = next((w for o, w in wrong_ if o == oracle), None)
                if said is None:
                    mode_, sql_, said = mode, sql, next(w for o, w in wrong if o == oracle)
                skeleton = oracle, re.sub(r"\b(t|w|z)\d+\b", "t", sql_)
                if skeleton not in found:
                    found[skeleton] = 1
                    print(f"{oracle.upper()} seed {seed} {mode_}: {sql_}\n    {said}", flush=True)
        if not args.sql:
            for name, kinds in sorted(counts.items()):
                print(f"{name:28}" + "  ".join(f"{kind} {kinds[kind]:5}" for kind in ("masked", "free", "refused", "error", "skipped")))
            total = sum((counts[m] for m in [*grammar.MODES, "session", "written"] if m in counts), collections.Counter())
            print("all: " + ", ".join(f"{n} {kind}" for kind, n in total.most_common()))
            print("violations: " + (", ".join(f"{n} {o}" for o, n in broken.most_common()) or "none"))
            wrong = sum(n for o, n in broken.items() if o not in args.tolerate)
            empty = not args.only and not all(total[kind] for kind in ("masked", "refused", "free"))
            print(f"{sum(total.values()) - wrong} passed, {wrong + empty} failed")
            if args.queries >= 200 and not args.only and not (total["masked"] and total["refused"] and total["free"]):
                print("some class is empty: the run shows nothing")
                return 1
        return 1 if any(o not in args.tolerate for o in broken) else 0
    finally:
        lab.stop()


if __name__ == "__main__":
    sys.exit(main())
