"""What of an answer is compared."""
import re

from world import rig


def codes(got):
    return [field[1:].decode() for tag, body in got if tag == "E" for field in body.split(b"\0") if field[:1] == b"C"]


def bare(got):
    """What must be equal between the direct answer and the gateway's: errors by their code alone, and not the numbers of
    temporary tables."""
    out = []
    for tag, body in got:
        if tag == "T":
            body = without_oids(body)
        if tag == "E":
            out.append(("E", codes([(tag, body)])[0].encode()))
            break  # what follows fails because of it
        elif tag not in "NS":
            out.append((tag, body))
    return out


HASH = re.compile(rb"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\\\\?x[0-9a-f]{64}\b")
TOKEN = re.compile(rb"tok_[a-z2-7]+|[a-z2-7]{8,}@[a-z2-7.]+\.token\.invalid")  # as long in each database
ACCOUNT = re.compile(rb"\b[0-9]{16}\b")  # may be a token
UUID = re.compile(rb"\0\0\0\x10.{16}", re.DOTALL)  # in COPY's binary format
CORRELATION = re.compile(rb'"correlation":"[^"]*"')


def normal(got, ordered=False):
    """The answer without what may differ: correlation ids, keyed hashes and tokens. The order of rows has an oracle of its own."""
    types, out, rows = [], [], []
    arrange = list if ordered else sorted
    for tag, body in got:
        if tag == "T":
            types = fields(body)
        if tag == "T":
            body = without_oids(body)
        if tag == "D" and 2950 in types:
            body = blank_uuids(body, types)
        body = ACCOUNT.sub(b"token", TOKEN.sub(b"token", HASH.sub(b"#", CORRELATION.sub(b"", body))))
        if tag == "d":
            body = UUID.sub(b"#uuid", body)
        if tag in "Dd":
            rows.append((tag, body))
        else:
            out += arrange(rows)
            rows = []
            out.append((tag, body))
    return out + arrange(rows)


def without_oids(body):
    """A RowDescription without the numbers of the tables."""
    out, at = body[:2], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        stop = body.index(0, at)
        out += body[at:stop + 1] + body[stop + 5:stop + 19]
        at = stop + 19
    return out


def fields(body):
    """The types of a RowDescription."""
    found, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        stop = body.index(0, at)
        found.append(int.from_bytes(body[stop + 7:stop + 11], "big"))
        at = stop + 19
    return found


def cells(body):
    at, out = 2, []
    for _ in range(int.from_bytes(body[:2], "big")):
        size = int.from_bytes(body[at:at + 4], "big", signed=True)
        out.append(None if size < 0 else body[at + 4:at + 4 + size])
        at += 4 + max(size, 0)
    return out


def blank_uuids(body, types):
    out = []
    for cell, kind in zip(cells(body), types):
        out.append(b"-" if cell is None else b"#uuid" if kind == 2950 and len(cell) == 16 else b"=" + cell)
    return b"\0|".join(out)
