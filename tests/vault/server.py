#!/usr/bin/env python3
"""Stands in for a Vault in tests: the part of the published HTTP API that the gateway uses, and strict about each request.

It makes real PostgreSQL roles. Whatever a request has wrong (path, method, header, body, namespace) is answered as Vault would,
or with 400, and kept in `faults`, on which a test fails. Secrets that it gives are kept in `secrets`, so that a test can look for them
where they must not be.
"""
import base64, http.server, json, re, secrets, ssl, threading, time

DEFAULT_TTL, MAX_TTL = 60, 3600


class Vault:
    """`admin(sql)` runs a statement at the database; `namespace` is what every request must name."""

    def __init__(self, admin, namespace="team-a", certificate=None, grants="GRANT USAGE ON SCHEMA public TO \"{name}\"; "
                 "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"{name}\""):
        self.admin, self.namespace, self.grants = admin, namespace, grants
        self.role_id, self.secret_id, self.jwt = "role-id-1", "sid-Zeppelin-" + secrets.token_hex(8), "jwt-Zeppelin." + secrets.token_hex(8)
        self.static = "hvs.Zeppelin-" + secrets.token_hex(8)
        self.lock = threading.RLock()
        self.tokens, self.leases, self.faults, self.secrets = {}, {}, [], [self.secret_id, self.jwt, self.static]
        self.kv, self.calls = {}, []
        self.wrapped, self.transit_version = {}, 1
        self.token_ttl, self.ttl, self.max_ttl, self.renewable, self.period = 3600, DEFAULT_TTL, MAX_TTL, True, 3600
        self.denied, self.sealed, self.delay = set(), False, 0.0
        self.revocation_fails = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.serve(self, "GET")

            def do_POST(self):
                outer.serve(self, "POST")

            def do_PUT(self):
                outer.fault(self, "PUT is not what the gateway sends")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # peers that go away
        self.scheme = "https" if certificate else "http"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.tokens[self.static] = {"until": None, "given": time.time()}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        for lease in list(self.leases):
            self.drop(lease)

    # ---- what is asked ----

    def fault(self, request, what, status=400):
        with self.lock:
            self.faults.append(f"{request.command} {request.path}: {what}")
        self.answer(request, status, {"errors": [what]})

    def answer(self, request, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def serve(self, request, method):
        length = int(request.headers.get("Content-Length") or 0)
        raw = request.rfile.read(length)
        try:
            self.dispatch(request, method, raw)
        except BrokenPipeError:
            pass
        except Exception as broken:  # a test must see it
            self.fault(request, f"the stand-in broke: {broken!r}", 500)

    def dispatch(self, request, method, raw):
        path, headers = request.path, request.headers
        if not path.startswith("/v1/") or "?" in path:
            return self.fault(request, "no path of the API")
        path = path[4:]
        with self.lock:
            self.calls.append((method, path))
        if headers.get("X-Vault-Request") != "true":
            return self.fault(request, "X-Vault-Request is missing")
        if headers.get("X-Vault-Namespace") != self.namespace:
            return self.fault(request, "the namespace is missing")
        if not headers.get("Host", "").startswith("127.0.0.1:"):
            return self.fault(request, "the Host is wrong")
        if any(h.lower().startswith("cookie") or h.lower() == "authorization" for h in headers):
            return self.fault(request, "there are headers that Vault needs none of")
        body = None
        if method == "POST":
            if headers.get("Content-Type") != "application/json":
                return self.fault(request, "the Content-Type is wrong")
            body = json.loads(raw)
            if not isinstance(body, dict):
                return self.fault(request, "the body is no object")
        elif raw:
            return self.fault(request, "a GET with a body")
        if self.sealed:
            return self.answer(request, 503, {"errors": ["Vault is sealed"]})
        token = headers.get("X-Vault-Token")
        login = re.fullmatch(r"auth/([\w-]+)/login", path)
        if login:
            if method != "POST" or token:
                return self.fault(request, "a login is a POST without a token")
            return self.login(request, login[1], body)
        with self.lock:
            known = self.tokens.get(token)
            alive = known and (known["until"] is None or known["until"] > time.time())
        if not token:
            return self.fault(request, "without a token", 403)
        if not alive:
            return self.answer(request, 403, {"errors": ["permission denied"]})
        if path in self.denied:
            return self.answer(request, 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        return self.with_token(request, method, path, body, token, known)

    def expect(self, request, method, wanted, body=None, keys=None):
        if method != wanted:
            self.fault(request, f"the API has {wanted} here", 405)
            return False
        if keys is not None and set(body) != set(keys):
            self.fault(request, f"the body has {sorted(body)}")
            return False
        return True

    def login(self, request, mount, body):
        wanted = {"approle": {"role_id": self.role_id, "secret_id": self.secret_id},
                  "kubernetes": {"role": "gateway", "jwt": self.jwt}, "jwt": {"role": "gateway", "jwt": self.jwt}}.get(mount)
        if wanted is None:
            return self.answer(request, 404, {"errors": ["no handler for route"]})
        if set(body) != set(wanted):
            return self.fault(request, f"the body has {sorted(body)}")
        if body != wanted:
            return self.answer(request, 400, {"errors": [f"invalid role or secret ID {body.get('secret_id', '')}"]})
        token = "hvs.Zeppelin-" + secrets.token_hex(12)
        with self.lock:
            self.tokens[token] = {"until": time.time() + self.token_ttl, "given": time.time()}
            self.secrets.append(token)
        self.answer(request, 200, {"auth": {"client_token": token, "accessor": "a", "policies": ["default"], "lease_duration": self.token_ttl,
                                            "renewable": True, "token_type": "service"}})

    def with_token(self, request, method, path, body, token, known):
        creds = re.fullmatch(r"database/creds/([\w-]+)", path)
        role = re.fullmatch(r"database/roles/([\w-]+)", path)
        kv = re.fullmatch(r"secret/data/(.+)", path)
        transit = re.fullmatch(r"transit/(encrypt|decrypt|rewrap)/gateway", path)
        if path == "auth/token/renew-self":
            if not self.expect(request, method, "POST", body, []):
                return
            with self.lock:
                known["until"] = time.time() + self.token_ttl
            return self.answer(request, 200, {"auth": {"client_token": token, "lease_duration": self.token_ttl, "renewable": True}})
        if path == "auth/token/lookup-self":
            if self.expect(request, method, "GET"):
                self.answer(request, 200, {"data": {"ttl": self.token_ttl, "renewable": True, "period": self.period, "id": token}})
            return
        if path == "sys/capabilities-self":
            if not self.expect(request, method, "POST", body, ["paths"]):
                return
            rights = {p: (["deny"] if p in self.denied else ["read"] if "/creds/" in p else ["update"]) for p in body["paths"]}
            return self.answer(request, 200, {**rights, "data": rights})
        if creds:
            if self.expect(request, method, "GET"):
                self.make(request, creds[1], token)
            return
        if role:
            if not self.expect(request, method, "GET"):
                return
            if role[1] not in ("orders-rw", "orders-ro"):
                return self.answer(request, 404, {"errors": []})
            return self.answer(request, 200, {"data": {"db_name": "orders", "default_ttl": self.ttl, "max_ttl": self.max_ttl}})
        if path == "sys/leases/renew":
            if self.expect(request, method, "POST", body, ["lease_id", "increment"]):
                self.renew(request, body)
            return
        if path == "sys/leases/revoke":
            if self.expect(request, method, "POST", body, ["lease_id", "sync"]):
                if body["sync"] is not True:
                    return self.fault(request, "not synchronous")
                if self.revocation_fails:
                    return self.answer(request, 400, {"errors": ["failed to revoke entry: role owns objects"]})
                self.drop(body["lease_id"])
                self.answer(request, 204)
            return
        if transit:
            return self.transit(request, method, transit[1], body)
        if kv:
            if not self.expect(request, method, "GET"):
                return
            if kv[1] not in self.kv:
                return self.answer(request, 404, {"errors": []})
            data = self.kv[kv[1]]
            status = 404 if data is None else 200
            return self.answer(request, status, {"data": {"data": data, "metadata": {"version": 1}}})
        self.answer(request, 404, {"errors": ["no handler for route \"" + path + "\""]})

    def transit(self, request, method, verb, body):
        """`vault:v<version>:` and, in place of a real cipher, the text under a number that only this server knows."""
        if not self.expect(request, method, "POST", body, ["plaintext" if verb == "encrypt" else "ciphertext"]):
            return
        if verb == "encrypt":
            text = body["plaintext"]
            if len(base64.b64decode(text, validate=True)) != 32:
                return self.fault(request, "no key of 32 bytes")
            self.secrets.append(text)
        else:
            known = re.fullmatch(r"vault:v\d+:(\w+)", body["ciphertext"])
            if not known or known[1] not in self.wrapped:
                return self.answer(request, 400, {"errors": ["cipher: message authentication failed"]})
            text = self.wrapped[known[1]]
        if verb == "decrypt":
            return self.answer(request, 200, {"data": {"plaintext": text}})
        number = secrets.token_hex(20)
        self.wrapped[number] = text
        self.answer(request, 200, {"data": {"ciphertext": f"vault:v{self.transit_version}:{number}", "key_version": self.transit_version}})

    # ---- leases ----

    def make(self, request, role, token):
        if role not in ("orders-rw", "orders-ro"):
            return self.answer(request, 400, {"errors": [f"unknown role: {role}"]})
        name, word = f"v-approle-{role}-{secrets.token_hex(6)}", "dyn-Zeppelin-" + secrets.token_hex(8)
        self.admin(f'CREATE ROLE "{name}" LOGIN PASSWORD \'{word}\' VALID UNTIL \'{self.stamp(self.ttl)}\'')
        self.admin(self.grants.format(name=name))
        lease = f"database/creds/{role}/{secrets.token_hex(12)}"
        with self.lock:
            self.secrets.append(word)
            self.leases[lease] = {"name": name, "role": role, "made": time.time(), "until": time.time() + self.ttl, "renewed": 0}
        time.sleep(self.delay)
        self.answer(request, 200, {"lease_id": lease, "renewable": self.renewable, "lease_duration": self.ttl,
                                   "data": {"username": name, "password": word}, "auth": None})

    def stamp(self, seconds):
        return time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(time.time() + seconds))

    def renew(self, request, body):
        if not isinstance(body["increment"], int) or body["increment"] <= 0:
            return self.fault(request, "the increment is no number of seconds")
        with self.lock:
            lease = self.leases.get(body["lease_id"])
        if lease is None or lease["until"] < time.time():
            return self.answer(request, 400, {"errors": ["lease not found"]})
        if not self.renewable:
            return self.answer(request, 400, {"errors": ["lease is not renewable"]})
        until = min(time.time() + min(body["increment"], self.ttl), lease["made"] + self.max_ttl)
        lease["until"], lease["renewed"] = until, lease["renewed"] + 1
        self.admin(f"ALTER ROLE \"{lease['name']}\" VALID UNTIL '{self.stamp(until - time.time())}'")
        self.answer(request, 200, {"lease_id": body["lease_id"], "renewable": True, "lease_duration": int(until - time.time())})

    def drop(self, lease):
        """As Vault's own statements do it; of a lease that it does not know there is nothing to revoke."""
        with self.lock:
            known = self.leases.pop(lease, None)
        if known:
            self.admin(f"DROP OWNED BY \"{known['name']}\"")
            self.admin(f"DROP ROLE \"{known['name']}\"")

    def of(self, role):
        """Names of the roles that are leased."""
        with self.lock:
            return [lease["name"] for lease in self.leases.values() if lease["role"] == role]

    def forget_tokens(self):
        """As if all tokens had been revoked; what was made stays, unlike in a Vault."""
        with self.lock:
            self.tokens = {self.static: self.tokens[self.static]}
