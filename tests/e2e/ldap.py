"""A directory that knows one thing: whether the password of a bind is good. PostgreSQL asks it for users of whom `pg_hba.conf` says
`ldap`, and has the password from its client in clear, as a database of RDS has a token."""
import socketserver, threading


def element(data, at):
    """Tag, contents and end of the BER element at `at`."""
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(data[at:at + size], "big"), at + size
    if at + length > len(data):
        raise IndexError
    return tag, data[at:at + length], at + length


def parts(data):
    at = 0
    while at < len(data):
        tag, inside, at = element(data, at)
        yield tag, inside


class Directory:
    """`judge(user, password)` says whether they are good."""

    def __init__(self, judge):
        self.asked = []
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                data = b""
                while True:
                    try:
                        _, message, end = element(data, 0)
                    except IndexError:
                        more = self.request.recv(65536)
                        if not more:
                            return
                        data += more
                        continue
                    data = data[end:]
                    (_, number), (operation, inside) = list(parts(message))[:2]
                    if operation != 0x60:  # not a BindRequest: an UnbindRequest
                        return
                    (_, _), (_, name), (kind, password) = parts(inside)
                    user = name.decode().removeprefix("cn=")
                    good = kind == 0x80 and judge(user, password.decode())
                    outer.asked.append((user, password.decode(), good))
                    answer = b"\x0a\x01" + bytes([0 if good else 49]) + b"\x04\x00\x04\x00"
                    answer = b"\x02" + bytes([len(number)]) + number + b"\x61" + bytes([len(answer)]) + answer
                    self.request.sendall(b"\x30" + bytes([len(answer)]) + answer)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
