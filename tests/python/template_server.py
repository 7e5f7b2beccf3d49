"""A small API on loopback, as the templates of `inshore init` expect one: prints its port, then serves until it is ended.

It checks what it is given: a wrong key is 401, a token is taken for two requests only, one request in the middle gets 429.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ITEMS = [
    {"id": n, "name": f"item {n}", "updated_at": f"2024-05-{n:02}T10:00:00Z", "deleted": n == 3} for n in range(1, 8)
]
ROWS = [{"id": n, "value": n * n} for n in range(1, 121)]
USERS = [{"id": n, "login": f"user{n}"} for n in range(1, 251)]
CLIENT = "Basic " + base64.b64encode(b"client:secret").decode()
USES_OF_A_TOKEN = 2


class Api(BaseHTTPRequestHandler):
    busy_once = True
    tokens = {}
    grants = []

    def log_message(self, *arguments):
        pass

    def answer(self, status, body, headers=()):
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        grant = form.get("grant_type", [""])[0]
        known = grant == "client_credentials" or (grant == "refresh_token" and form["refresh_token"] == ["again"])
        if self.path != "/token" or self.headers.get("Authorization") != CLIENT or not known:
            return self.answer(401, {"error": "invalid_client"})
        self.grants.append(grant)
        token = f"token-{len(self.grants)}"
        self.tokens[token] = USES_OF_A_TOKEN
        return self.answer(200, {"access_token": token, "refresh_token": "again", "expires_in": 3600})

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        page = getattr(self, url.path.strip("/").replace("-", "_"), None)
        return page(query) if page else self.answer(404, {"error": url.path})

    def items(self, query):
        if self.headers.get("Authorization") != "Bearer key":
            return self.answer(401, {"error": "key"})
        if query["page"] == "2" and Api.busy_once:
            Api.busy_once = False
            return self.answer(429, {"error": "busy"}, [("Retry-After", "0.1")])
        changed = [item for item in ITEMS if item["updated_at"] >= query["updated_since"]]
        start, size = (int(query["page"]) - 1) * int(query["page_size"]), int(query["page_size"])
        return self.answer(200, {"items": changed[start : start + size], "has_more": start + size < len(changed)})

    def users(self, query):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0) == 0:
            return self.answer(401, {"error": "token"})
        self.tokens[token] -= 1
        after = int(query["after"])
        return self.answer(200, {"users": [user for user in USERS if user["id"] > after][: int(query["limit"])]})

    def granted(self, query):
        return self.answer(200, self.grants)

    def by_page(self, query):
        start, size = (int(query["page"]) - 1) * int(query["per_page"]), int(query["per_page"])
        return self.answer(200, {"rows": ROWS[start : start + size]})

    def by_offset(self, query):
        start = int(query["offset"])
        return self.answer(200, {"rows": ROWS[start : start + int(query["limit"])], "total": len(ROWS)})

    def by_cursor(self, query):
        start, size = int(query.get("cursor", "0")), int(query["limit"])
        more = {"next_cursor": str(start + size)} if start + size < len(ROWS) else {}
        return self.answer(200, {"rows": ROWS[start : start + size], **more})

    def by_link(self, query):
        start, size = int(query.get("start", "0")), int(query["limit"])
        host = self.headers["Host"]
        link = [("Link", f'<http://{host}/by-link?start={start + size}&limit={size}>; rel="next"')]
        return self.answer(200, {"rows": ROWS[start : start + size]}, link if start + size < len(ROWS) else ())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
