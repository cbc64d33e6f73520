"""A psql script taken apart as psql does it: statements, data for COPY, its own commands."""
import re

QUOTED = re.compile(r"(?is)[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$).*?\1"
                    r"|--[^\n]*")
WORD = re.compile(r"[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*")
VARIABLE = re.compile(r"(?<![:\w]):(?:'(\w+)'|\"(\w+)\"|(\w+))")
ROUTINE = re.compile(r"(?is)\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\b")


def comment_end(text, at):
    """Behind a block comment, which may hold others."""
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if not depth:
                return at
        else:
            at += 1
    return at


def parts(text):
    """Yields ("sql", text), ("data", lines) after a COPY FROM STDIN, and ("command", line)."""
    at, start, parens, begins, out = 0, 0, 0, 0, []

    def statement(end):
        sql = "".join(out) + text[start:end]
        out.clear()
        return sql.strip()

    while at < len(text):
        quoted = QUOTED.match(text, at)
        if quoted and (at == 0 or not (text[at] == "$" and (text[at - 1].isalnum() or text[at - 1] in "_$"))):
            at = quoted.end()
        elif text.startswith("/*", at):
            at = comment_end(text, at)
        elif text[at] == "\\":
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end]
            if line.startswith("\\;"):
                out.append(text[start:at] + ";")
                at += 2
                start = at
                continue
            if line.startswith("\\g") and not line.startswith("\\getenv"):  # sends what was typed
                sql = statement(at)
                if sql:
                    yield "sql", sql
                parens = begins = 0
            else:
                out.append(text[start:at])
                yield "command", line
            at = start = end
        elif text[at] == ";" and parens <= 0 and begins <= 0:
            sql = statement(at)
            at += 1
            start, parens, begins = at, 0, 0
            if not sql:
                continue
            yield "sql", sql
            if re.match(r"(?is)(?:\s|--[^\n]*\n)*copy\b.*\bfrom\s+stdin\b", sql):
                start = text.find("\n", at) + 1
                end = re.compile(r"(?m)^\\\.$").search(text, start)
                yield "data", text[start:end.start() if end else len(text)]
                at = start = end.end() if end else len(text)
        else:
            word = WORD.match(text, at)
            if word:
                if ROUTINE.match("".join(out) + text[start:at]):
                    name = word.group().lower()
                    begins += name in ("begin", "case") and (begins > 0 or name == "begin")
                    begins -= name == "end" and begins > 0
                at = word.end()
            else:
                parens += (text[at] == "(") - (text[at] == ")")
                at += 1
    sql = statement(len(text))
    if sql:
        yield "sql", sql


def filled(sql, variables):
    """With psql's variables put in, outside of quotes."""
    def value(found):
        literal, identifier, plain = found.groups()
        name = literal or identifier or plain
        if name not in variables:
            return found.group()
        text = variables[name]
        if literal:
            return "'" + text.replace("'", "''") + "'"
        return '"' + text.replace('"', '""') + '"' if identifier else text

    if ":" not in sql or not variables:
        return sql
    out, at = [], 0
    for quoted in QUOTED.finditer(sql):
        out += [VARIABLE.sub(value, sql[at:quoted.start()]), quoted.group()]
        at = quoted.end()
    return "".join(out) + VARIABLE.sub(value, sql[at:])


def first_word(sql):
    """The first word of a statement, in lower case; parentheses and comments before it do not count."""
    at = 0
    while at < len(sql):
        if sql[at].isspace() or sql[at] == "(":
            at += 1
        elif sql.startswith("--", at):
            at = (sql.find("\n", at) + 1) or len(sql)
        elif sql.startswith("/*", at):
            at = comment_end(sql, at)
        else:
            break
    word = WORD.match(sql, at)
    return word.group().lower() if word else ""
