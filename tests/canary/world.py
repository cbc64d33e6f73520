"""The private server, its three databases, the gateway before them, and connections that keep every byte.

`canary_a` and `canary_b` are the same in every name, number and OID, and in which values are equal. They differ in the
secret part of every tagged value: its characters, its length, its rank. Who may not see the values must get the same
answers from both. `canary_c` differs from `canary_a` as well, but in each column its values have the same order: it tells
apart what depends on the order of values from what depends on more.
"""
import glob, hashlib, pathlib, random, shutil, string, struct, sys, uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cases"), str(HERE.parent / "cases" / "postgres")]
import common  # noqa: E402
import rig  # noqa: E402

DATABASES = ("canary_a", "canary_b", "canary_c")
LETTERS = "ghjkmnpqrstvwxyz"  # none of them a hexadecimal digit: digests can't look like a canary
ROWS = 8
CODE_WIDTH = 49  # the token of a text of twelve letters
LABELS = ["".join(random.Random(f"label {n}").choices(LETTERS, k=11)) for n in range(ROWS)]

SUITE = {
    "target": {"login": "app", "password": "tgt-canary"}, "database": DATABASES[0],
}

RESOURCE = """
[[resource]]
name = "canary-db"
protocol = "postgres"
address = "127.0.0.1:{port}"
tls = "disable"
credential = {{ kind = "static", username = "app", password = {{ file = "{dir}/target-password" }} }}
"""

TAGS = {
    "pii.mail": ("partial", ["cust.email", "pay.email", "visits.email", "scratch.email"]),
    "pii.phone": ("partial", ["cust.tel", "cust.ch", "cust.tags"]),
    "pii.note": ("redact", ["cust.vc", "cust.num", "cust.blob", "cust.doc", "cust.con", "cust.lvl", "pay.card"]),
    "hr.pay": ("null", ["cust.sal"]),
    "pii.when": ("year", ["cust.day", "cust.seen"]),
    "pii.key": ("hash", ["cust.tok", "cust.secret"]),
    "pii.part": ("redact", ["ev.body$.user.mail", "ev.raw$.user.mail", "ev.body$.any.*", 'ev.body$.\\"1\\".s', 'ev.body$.\\"a.b\\"']),
    "pii.item": ("token", ["ev.body$.items[*].x", "ev.raw$.items[*].x"]),
    "pii.code": ("token", ["ev.code", "ev.mail", "ev.acct", "note.code"]),
}

DECLARED = """
[[resource.detect]]
tag = "found"
find = ["email", "card"]
[[resource.function]]
name = "public.mail_at"
tags = ["pii.mail"]
"""

POLICIES = {"canary": """
@id("connect") permit (principal, action == Action::"connect", resource == Resource::"canary-db");
@id("read") permit (principal, action in [Action::"read", Action::"temp"], resource in Resource::"canary-db");
@id("write") permit (principal, action in [Action::"write", Action::"write-unbounded"],
                     resource) when { resource in [Table::"canary-db/public.scratch", Table::"canary-db/public.note"] };
@id("call") permit (principal, action == Action::"call", resource == Function::"canary-db/public.mail_at");
@id("open") permit (principal in Group::"open", action == Action::"unmask", resource);
"""}

SETUP = """
CREATE TYPE contact AS (mail text, code int);
CREATE TYPE level AS ENUM ({labels});
CREATE DOMAIN phone AS text CHECK (value <> 'none');
CREATE TABLE cust (id int PRIMARY KEY, email text, name text, sal int, vc varchar(40), num numeric(18,4), tel phone,
  secret text, grp int, region text, ok bool, since date, free uuid, ch char(24), day date, seen timestamptz, tok uuid,
  blob bytea, doc jsonb, tags text[], con contact, lvl level);
CREATE TABLE cust_old (closed date) INHERITS (cust);
CREATE TABLE pay (id int PRIMARY KEY, email text, cust_id int, amount numeric(10,2), note text, card text);
CREATE TABLE visits (id int, email text, page text) PARTITION BY RANGE (id);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (4);
CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (4) TO (100);
CREATE TABLE scratch (id int PRIMARY KEY, label text NOT NULL, email text UNIQUE, n int CHECK (n < 1000),
  CHECK (email <> label));
CREATE TABLE free (id int PRIMARY KEY, label text, n int, at timestamptz, j jsonb, list text[]);
CREATE TABLE ev (id int PRIMARY KEY, page text, body jsonb, raw json, code text, mail text, acct text);
CREATE TABLE note (id int PRIMARY KEY, mark text, code text, doc jsonb);
CREATE TABLE memo (id int, t text, v varchar(90), dm phone, j json, jb jsonb, ta text[], tt text[], x xml, ct contact, cts contact[],
  num numeric, big bigint);
CREATE FUNCTION mail_at(who int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT email FROM cust WHERE id = who); END $$;
CREATE VIEW v_ev AS SELECT id, body -> 'user' AS u, body -> 'items' AS items, raw -> 'user' AS r, body -> 'any' AS other,
  body ->> 'page' AS page, body -> 'user' ->> 'name' AS name, body #>> '{{user,mail}}' AS m FROM ev;
CREATE VIEW v_contact AS SELECT id, email AS mail, name, tel, region FROM cust;
CREATE VIEW v_label AS SELECT id, name || ' <' || mail || '>' AS label, mail FROM v_contact;
CREATE VIEW v_free AS SELECT id, name, grp, region FROM cust;
CREATE VIEW v_count AS SELECT count(*) AS n, region, count(DISTINCT email) AS mails FROM cust GROUP BY region;
CREATE VIEW v_part AS SELECT id, left(email, 6) AS part, lower(email) AS low, length(email) AS size FROM cust;
CREATE MATERIALIZED VIEW mv_part AS SELECT * FROM v_part;
CREATE MATERIALIZED VIEW mv AS SELECT c.id, c.email AS m, p.card, p.note FROM cust c JOIN pay p ON p.cust_id = c.id;
INSERT INTO free SELECT n, 'label ' || n, n % 3, timestamptz '2024-01-01 00:00+00' + n * interval '1 day',
  jsonb_build_object('k', 'v' || n), ARRAY['l' || n, 'all'] FROM generate_series(1, 6) n;
"""

COLUMNS = ("id, name, grp, region, ok, since, free, email, vc, ch, num, sal, day, seen, tok, blob, doc, tags, con, tel, lvl, "
           "secret")


def made(side, kind, n, make):
    """A value: the same for the same `n`, another in each database."""
    if side != 2:
        return make(random.Random(f"{side} {kind} {n}"), side)
    first = sorted({made(0, kind, m, make) for m in range(ROWS)})
    other = sorted({made(3, kind, m, make) for m in range(ROWS)})
    return other[first.index(made(0, kind, n, make))]


def letters(dice, side):
    return "".join(dice.choices(LETTERS, k=12 + (dice.randrange(1, 5) if side else 0)))


def digits(dice, _):
    return dice.randrange(100_000_000, 999_999_999)


def high_bytes(dice, _):
    return bytes(dice.choices(range(128, 256), k=16))


class Secrets:
    """The tagged values of one database and everything that would give one of them away."""

    def __init__(self, side):
        self.side, self.prefixes, self.short = side, {}, []
        self.rows = [self.row(n) for n in range(ROWS)]
        for label in LABELS:
            self.text(label, label)

    def pattern(self, raw, name):
        if len(raw) < 5:
            self.short.append((raw, name))
        else:
            self.prefixes.setdefault(raw[:5], []).append((raw, name))

    def text(self, whole, secret):
        """All the ways in which the secret part of `whole` might be seen. They are looked for in lower case."""
        for at in range(len(secret) - 4):
            window = secret[at:at + 5]
            for form, name in ((window, "text"), (window[::-1], "reversed"), (window.encode().hex(), "hex"),
                               (window.encode("utf-16-be").hex(), "utf-16 hex"), (" ".join(window), "spaced")):
                self.pattern(form.encode(), f"{name} {window}")
        import base64
        for shift in range(3):
            coded = base64.b64encode(b"\0" * shift + secret.encode())
            self.pattern(coded[4:-4].lower()[:8], f"base64 of {secret}")
        for digest in ("md5", "sha256", "sha224", "sha384", "sha512"):
            for value in (whole, secret):
                got = hashlib.new(digest, value.encode()).digest()
                self.pattern(got.hex().encode()[:16], f"{digest} of {value}")
                self.pattern(lower(got[:8]), f"{digest} of {value}")
        return whole

    def number(self, digits):
        """Seven digits in a row are no chance."""
        plain = digits.replace(".", "")
        for at in range(len(plain) - 6):
            self.pattern(plain[at:at + 7].encode(), f"number {digits}")
            self.pattern(plain[at:at + 7][::-1].encode(), f"reversed number {digits}")
        return digits

    def bytes(self, raw):
        self.pattern(raw.hex().encode()[:12], "bytes as hex")
        self.pattern(lower(raw[:6]), "bytes")
        return raw

    def row(self, n):
        """One row of `cust`; rows 5 and 2 are equal in all tagged columns, some of row 7 are NULL."""
        side, n = self.side, 2 if n == 5 else n
        dice = random.Random(f"days {side} {n}")

        def word(kind, tail=""):
            secret = made(side, kind, n, letters)
            return self.text(secret + tail, secret)

        def number(kind):
            return made(side, kind, n, digits)

        email, phone, padded = word("email", "@e.t"), word("tel", "0000"), word("ch", "0000")
        # In no way ordered as the rows are, and not the same order in both databases.
        sal = number("sal")
        self.number(str(sal))
        self.pattern(lower(struct.pack("!i", sal)), f"binary {sal}")
        num = self.number(f"{number('num')}.{number('fraction') % 9000 + 1000}")
        day = f"{1950 + n * 3}-{dice.randrange(2, 13):02}-{dice.randrange(2, 28):02}"
        self.pattern(day.encode(), f"date {day}")
        seen = (f"{1960 + n * 3}-{dice.randrange(2, 13):02}-{dice.randrange(2, 28):02} {dice.randrange(24):02}:"
                f"{dice.randrange(10, 60)}:21+00")
        self.pattern(seen[:16].encode(), f"time {seen}")
        tok = uuid.UUID(bytes=self.bytes(made(side, "tok", n, high_bytes)))
        self.pattern(str(tok)[9:23].encode(), f"uuid {tok}")
        blob = self.bytes(made(side, "blob", n, high_bytes)[:12 + side])
        more = ', "%s": 1' % "uvw"[dice.randrange(3)] if dice.randrange(2) else ""
        doc = '{"k": "%s", "n": %s, "a": ["%s"]%s}' % (word("doc"), self.number(str(number("n"))), word("a"), more)
        con = f"({word('con')},{self.number(str(number('code')))})"
        label = LABELS[(n, (n * 3 + 2) % ROWS, n + (n == 4))[side]]
        tags = "{%s}" % ",".join(word(f"tag{at}", "tttt") for at in range(2))
        values = [email, word("vc"), padded, num, str(sal), day, seen, str(tok), "\\x" + blob.hex(), doc, tags, con,
                  phone, label, word("secret")]
        return [None if n == 7 and at % 3 == 0 and at else v for at, v in enumerate(values)]

    def parts(self, n, q):
        """The rows of the tables of parts, tokens and of what detectors find. Here a secret is as long in each database."""
        side = self.side

        def word(kind, tail=""):
            secret = made(side, kind, n, lambda dice, _: "".join(dice.choices(LETTERS, k=12)))
            return self.text(secret + tail, secret)

        def number(kind, count):
            return self.number(made(side, kind, n, lambda dice, _: "".join(dice.choices("123456789", k=count))))

        item = word("item")
        body = (f'{{"user": {{"mail": "{word("part")}", "name": "N{n}"}}, "items": [{{"x": "{item}", "n": {n}}}, {{"x": "{item}"}}], '
                f'"any": {{"q": "{word("any")}", "r": "{word("more")}"}}, "1": {{"s": "{word("one")}"}}, "a.b": "{word("dot")}", "page": "/p{n}"}}')
        raw = (f'{{"user": {{"m\\u0061il": "{word("raw")}", "mail": "{word("raw2")}"}}, "page": "r", "items": [{{"n": 1, "x": "{word("raw3")}"}}]}}')
        code = word("code")
        account = number("account", 15)
        account += str(next(d for d in range(10) if luhn(account + str(d))))
        yield (f"INSERT INTO ev VALUES ({n}, '/p{n}', {q(body)}, {q(raw)}, {q(code)}, {q(word('address', '@mail.test'))}, {q(account)})")
        if n < 3:
            yield f"INSERT INTO note VALUES ({n}, 'mark {n}', {q(word('code'))}, '{{}}')"
        mail, card = word("found", "@mail.test"), number("card", 15)
        card += str(next(d for d in range(10) if luhn("4" + card[1:] + str(d))))
        card = "4" + card[1:]
        self.number(card)
        yield (f"INSERT INTO memo VALUES ({n}, 'to {mail} or {card}', '{mail}', '{mail}', '{{\"k\": \"{mail}\", \"{mail}\": 1, \"n\": {card}, \"e\": \"{mail.replace('@', chr(92) + 'u0040')}\"}}', "
               f"'{{\"k\": [\"{mail}\", {card}]}}', ARRAY['a', NULL, '{mail}', '\"q\" {mail}'], ARRAY['{mail}', '{card}'], '<a b=\"{mail}\">{mail}</a>', "
               f"ROW('{mail}', 1), ARRAY[ROW('{mail}', 1)::contact], {card}, {card})")

    def found(self, raw):
        """What of the secrets these bytes show."""
        low, hits = lower(raw), []
        get = self.prefixes.get
        for at in range(len(low) - 4):
            for pattern, name in get(low[at:at + 5], ()):
                if low.startswith(pattern, at):
                    hits.append(name)
        hits += [name for pattern, name in self.short if pattern in low]
        return hits

    def inserts(self):
        q = lambda v: "NULL" if v is None else "'" + v.replace("'", "''") + "'"  # noqa: E731
        for n, values in enumerate(self.rows):
            own = [n, f"name{n}", n % 3, ("north", "south", "east")[n % 3], n % 2 == 0, f"2020-01-{n + 1:02}",
                   str(uuid.UUID(int=n))]
            cells = ", ".join(q(str(v)) for v in own) + ", " + ", ".join(map(q, values))
            yield f"INSERT INTO cust{'_old' if n > 5 else ''} ({COLUMNS}) VALUES ({cells})"
            card = made(self.side, "card", n, letters)
            self.text(card, card)
            yield (f"INSERT INTO pay (id, cust_id, amount, note, email, card) VALUES ({n}, {n * 3 % ROWS}, {n}.25, 'note {n}', {q(self.rows[n * 5 % ROWS][0])}, "
                   f"{q(card)})")
            yield f"INSERT INTO visits (id, page, email) VALUES ({n}, '/p/{n % 3}', {q(self.rows[n * 3 % ROWS][0])})"
            if n in (0, 2, 3):
                yield f"INSERT INTO scratch VALUES ({n}, 'label {n}', {q(values[0])}, {n * 10})"
            yield from self.parts(n, q)
        yield "REFRESH MATERIALIZED VIEW mv"
        yield "REFRESH MATERIALIZED VIEW mv_part"
        yield "ANALYZE"


def luhn(digits):
    """Whether Luhn's sum holds."""
    turned = [int(d) * (1 + at % 2) for at, d in enumerate(reversed(digits))]
    return sum(n - 9 if n > 9 else n for n in turned) % 10 == 0


def lower(raw):
    """ASCII letters in lower case, the other bytes as they are."""
    return raw.translate(LOWER)


LOWER = bytes(b + 32 if chr(b) in string.ascii_uppercase else b for b in range(256))


class Server(rig.Server):
    """A private server with the two databases."""

    def __init__(self):
        super().__init__(SUITE)

    def start(self):
        word = self.dir / "password"
        word.write_text("superuser")
        (self.dir / "target-password").write_text(self.names["password"])
        if rig.os.geteuid() == 0:
            for path in (self.dir, *self.dir.iterdir()):
                shutil.chown(path, self.owner)
        data = self.dir / "data"
        self._as_owner(self.bin / "initdb", "-D", data, "-U", "postgres", "--pwfile", word, "-E", "UTF8", "--locale=C",
                       "-A", "scram-sha-256")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                       "fsync = off\nautovacuum = off\njit = off\ncompute_query_id = off\nlogging_collector = off\n"
                       "timezone = 'UTC'\nstatement_timeout = '4s'\n"
                       # Hashes would order joined rows by their values.
                       "enable_hashjoin = off\nenable_mergejoin = off\nenable_hashagg = off\n"
                       "max_parallel_workers_per_gather = 0\n")
        self._as_owner(self.bin / "pg_ctl", "-D", data, "-l", self.dir / "server.log", "-w", "start")
        self.admin("postgres", ["CREATE ROLE app LOGIN PASSWORD '{password}'", "CREATE DATABASE empty OWNER app"])
        self.admin("empty", "ALTER SCHEMA public OWNER TO app")
        owner = self.login("empty")
        owner.query(SETUP.format(labels=", ".join(f"'{label}'" for label in LABELS)))
        owner.close()
        self.secrets = [Secrets(side) for side in range(3)]
        for name, secrets in zip(DATABASES, self.secrets):
            self.admin("postgres", f"CREATE DATABASE {name} TEMPLATE empty OWNER app")
            owner = self.login(name)
            owner.query(";".join(secrets.inserts()))
            owner.close()
        return self


def gateway(server, binary, keep=False):
    text = RESOURCE.format(port=server.port, dir=server.dir)
    for tag, (mask, columns) in TAGS.items():
        listed = ", ".join(f'"public.{column}"' for column in columns)
        text += f'\n[[resource.tag]]\ntag = "{tag}"\ncolumns = [{listed}]\nmask = "{mask}"\n'
    text += DECLARED
    return common.Gateway(binary, "postgres", text, POLICIES, keep).start()


class Wire(rig.Wire):
    """A connection that keeps what arrives as it is."""

    def __init__(self, port, seconds=3600):
        super().__init__(port, seconds)
        self.got = []

    def _note(self, tag, body):
        if tag == "E":
            fields = {chr(f[0]): self._text(f[1:]) for f in body.split(b"\0") if f}
            self.errors.append(fields)
        if tag == "Z":
            self.status, self.outstanding = chr(body[0]), self.outstanding - 1
        if tag == "K":
            self.key = (int.from_bytes(body[:4], "big"), body[4:])
        self.got.append((tag, body))

    def run(self, batches, seconds=10):
        """Sends each batch and reads its answer; all messages that came."""
        self.got, self.errors, self.end = [], [], rig.time.monotonic() + seconds
        for batch in batches:
            self.exchange(batch)
        got = self.got
        if self.status != "I" and not self.closed:
            self.exchange([rig.frame("Q", b"ROLLBACK\0")])
        return got
