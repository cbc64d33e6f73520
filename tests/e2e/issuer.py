"""An identity provider for the tests: RSA keys made and used by `openssl`, documents served on loopback."""
import base64, http.server, json, pathlib, subprocess, tempfile, threading, time


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


class Key:
    """An RSA key that signs RS256."""

    def __init__(self, folder, name):
        self.name, self.path = name, pathlib.Path(folder) / f"{name}.pem"
        subprocess.run(["openssl", "genrsa", "-out", self.path, "2048"], check=True, capture_output=True)

    def jwk(self):
        told = subprocess.run(["openssl", "rsa", "-in", self.path, "-noout", "-modulus"], check=True, text=True,
                              capture_output=True).stdout
        modulus = bytes.fromhex(told.strip().removeprefix("Modulus="))
        return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.name, "n": b64(modulus), "e": "AQAB"}

    def sign(self, claims, **header):
        header = {"alg": "RS256", "typ": "JWT", "kid": self.name, **header}
        signed = b64(json.dumps(header)) + "." + b64(json.dumps(claims))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.path], input=signed.encode(), check=True,
                                   capture_output=True).stdout
        return f"{signed}.{b64(signature)}"


class Issuer:
    """Serves discovery and keys, until it is put down, and again when it is put up."""

    def __init__(self, audience="gateway"):
        self.folder = tempfile.TemporaryDirectory(prefix="gateway-e2e-issuer-")
        self.audience, self.asked, self.port, self.server = audience, [], 0, None
        self.key = Key(self.folder.name, "first")
        self.published = [self.key]
        self.up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()
        self.folder.cleanup()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def section(self, name="corp", **keys):
        keys = {"name": name, "issuer": self.url, "audience": self.audience, **keys}
        return "[[identity.oidc]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())

    def up(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                found = {"/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": issuer.url + "/jwks"},
                         "/jwks": {"keys": [key.jwk() for key in issuer.published]}}.get(self.path)
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_):
                pass

        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def new_key(self, name, publish=True):
        key = Key(self.folder.name, name)
        if publish:
            self.published, self.key = [*self.published, key], key
        return key

    def claims(self, sub="alice@corp.test", groups=("readers",), ttl=600, **more):
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.audience, "sub": sub, "groups": groups if isinstance(groups, str) else list(groups),
                  "iat": now, "exp": now + ttl}
        return {**claims, **more}

    def token(self, key=None, **claims):
        return (key or self.key).sign(self.claims(**claims))
