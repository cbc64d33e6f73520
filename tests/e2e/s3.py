"""A stand-in for S3, as far as recordings need it, which fails as it is told to."""
import hashlib, re, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape


class S3:
    """One bucket, in memory. `fault` is asked with method, name and number of each request: "500", "403", "reset", "slow", "cut" or None."""

    def __init__(self, key="AKIAGATEWAY"):
        self.key, self.objects, self.uploads, self.log, self.unsigned = key, {}, {}, [], []
        self.fault = lambda method, name, number: None
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def error(self, status, code):
                self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

            def handle_any(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
                name = urllib.parse.unquote(url.path).lstrip("/")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with outer.lock:
                    outer.log.append((self.command, name, query))
                    number = len(outer.log)
                signed = self.headers.get("Authorization", "")
                digest = self.headers.get("x-amz-content-sha256", "")
                good = (re.match(rf"AWS4-HMAC-SHA256 Credential={outer.key}/\d{{8}}/[a-z0-9-]+/s3/aws4_request, ?SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*, ?Signature=[0-9a-f]{{64}}$", signed)
                        and self.headers.get("x-amz-date") and digest in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()))
                if not good:
                    outer.unsigned.append((self.command, name, signed))
                    return self.error(403, "SignatureDoesNotMatch")
                fault = outer.fault(self.command, name, number)
                if fault == "reset":
                    self.close_connection = True
                    self.connection.setsockopt(__import__("socket").SOL_SOCKET, __import__("socket").SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    return self.connection.close()
                if fault == "slow":
                    time.sleep(2)
                elif fault in ("500", "403"):
                    return self.error(int(fault), "InternalError" if fault == "500" else "AccessDenied")
                getattr(self, "do_" + self.command.lower())(name, query, body, fault)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

            def do_put(self, name, query, body, fault):
                if "uploadId" in query:
                    outer.uploads[query["uploadId"]][int(query["partNumber"])] = body
                else:
                    outer.objects[name] = body
                self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

            def do_post(self, name, query, body, fault):
                if "uploads" in query:
                    upload = f"u{len(outer.uploads)}"
                    outer.uploads[upload] = {}
                    return self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode())
                if "delete" in query:
                    names = [urllib.parse.unquote(one) for one in re.findall(r"<Key>(.*?)</Key>", body.decode())]
                    bucket = name.split("/")[0]
                    for one in names:
                        outer.objects.pop(f"{bucket}/{one}", None)
                    told = "".join(f"<Deleted><Key>{escape(one)}</Key></Deleted>" for one in names)
                    return self.answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())
                parts = outer.uploads.pop(query["uploadId"])
                outer.objects[name] = b"".join(parts[number] for number in sorted(parts))
                self.answer(200, f'<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>'.encode())

            def do_get(self, name, query, body, fault):
                if "list-type" in query:
                    found = [one for one in sorted(outer.objects) if one.startswith(f"{name.rstrip('/')}/{query.get('prefix', '')}")]
                    told = "".join(f"<Contents><Key>{escape(one.split('/', 1)[1])}</Key><Size>{len(outer.objects[one])}</Size></Contents>" for one in found)
                    return self.answer(200, f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{told}</ListBucketResult>".encode())
                if name not in outer.objects:
                    return self.error(404, "NoSuchKey")
                data = outer.objects[name]
                common = {"Last_Modified": "Fri, 27 Nov 2026 10:00:00 GMT", "ETag": f'"{hashlib.md5(data).hexdigest()}"'}
                if fault == "cut":
                    self.close_connection = True
                    self.answer(200, data[:len(data) // 2], Content_Length=str(len(data)), **common)
                    return
                self.answer(200, data, **common)

            def do_head(self, name, query, body, fault):
                if name not in outer.objects:
                    return self.answer(404)
                self.answer(200, b"", Content_Length=str(len(outer.objects[name])), Last_Modified="Fri, 27 Nov 2026 10:00:00 GMT", ETag='"x"')

            def do_delete(self, name, query, body, fault):
                outer.objects.pop(name, None)
                outer.uploads.pop(query.get("uploadId"), None)
                self.answer(204)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
