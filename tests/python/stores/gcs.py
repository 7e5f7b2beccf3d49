#!/usr/bin/env python3
"""A small Google Cloud Storage for tests: objects with real generations over HTTP, in memory, standard library only.

What Inshore relies on is strict here. `x-goog-if-generation-match: 0` creates at most once, however many ask at the same time; a
write is visible to the next request; an upload in parts is nothing before it is completed. It is the XML interface, which
object stores' clients use: put, get with ranges, head, delete, list, uploads in parts and their list.
"""

from __future__ import annotations

import argparse
import datetime
import email.utils
import hashlib
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

PAGE = 1000


class Bucket:
    """Objects by name, and uploads that are not finished. One lock: every request is one step."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, tuple[bytes, int, float]] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.generation = 1_000

    def put(self, name: str, content: bytes, if_generation: int | None) -> int | None:
        """The new generation; None when the condition does not hold."""
        with self.lock:
            held = self.objects[name][1] if name in self.objects else 0
            if if_generation is not None and if_generation != held:
                return None
            self.generation += 1
            self.objects[name] = (content, self.generation, datetime.datetime.now().timestamp())
            return self.generation

    def get(self, name: str) -> tuple[bytes, int, float] | None:
        with self.lock:
            return self.objects.get(name)

    def delete(self, name: str) -> bool:
        with self.lock:
            return self.objects.pop(name, None) is not None

    def names(self, prefix: str) -> list[str]:
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    buckets: dict[str, Bucket] = {}
    # A listing page; tests of paging make it small.
    page = PAGE

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", kind: str = "application/xml", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-type", kind)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def parse(self) -> tuple[list[str], dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        return url.path.lstrip("/").split("/"), query

    def handle_request(self) -> None:
        parts, query = self.parse()
        content = self.body()
        unquote = urllib.parse.unquote
        bucket = self.buckets.get(unquote(parts[0]))
        if bucket is None:
            error = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist.</Message></Error>"
            return self.answer(404, error.encode())
        return self.xml_interface(bucket, unquote("/".join(parts[1:])), query, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def list(self, bucket: Bucket, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = max(query.get("continuation-token", ""), query.get("start-after", ""))
        texts: list[str] = []
        folder = last = ""
        for name in bucket.names(prefix):
            key = name
            if delimiter and delimiter in name[len(prefix) :]:
                key = prefix + name[len(prefix) :].split(delimiter)[0] + delimiter
            if (after and key <= after) or folder == key:
                continue
            if len(texts) == min(self.page, int(query.get("max-keys", self.page))):
                token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
                texts.append(f"{token}<IsTruncated>true</IsTruncated>")
                break
            held = bucket.get(name)
            if key != name:
                folder = key
                texts.append(f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>")
            elif held:
                at = datetime.datetime.fromtimestamp(held[2], datetime.timezone.utc).isoformat()
                tag = f"<ETag>&quot;{held[1]}&quot;</ETag>"
                size = f"<Size>{len(held[0])}</Size><LastModified>{at}</LastModified>"
                texts.append(f"<Contents><Key>{escape(name)}</Key>{size}{tag}</Contents>")
            last = key
        text = f"<ListBucketResult>{''.join(texts)}</ListBucketResult>"
        self.answer(200, text.encode())

    def xml_interface(self, bucket: Bucket, name: str, query: dict[str, str], content: bytes) -> None:
        if "uploads" in query and not name and self.command == "GET":
            return self.list_uploads(bucket, query)
        if "uploads" in query and self.command == "POST":
            upload = uuid.uuid4().hex
            with bucket.lock:
                bucket.uploads[upload] = (name, {})
            text = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, text.encode())
        if "uploadId" in query:
            return self.parts(bucket, name, query, content)
        if not name and self.command == "GET":
            return self.list(bucket, query)
        return self.object(bucket, name, content)

    def object(self, bucket: Bucket, name: str, content: bytes) -> None:
        if self.command == "PUT":
            condition = self.headers.get("x-goog-if-generation-match")
            generation = bucket.put(name, content, None if condition is None else int(condition))
            if generation is None:
                error = "<Error><Code>PreconditionFailed</Code></Error>"
                return self.answer(412, error.encode())
            return self.answer(200, etag=f'"{generation}"', x_goog_generation=str(generation))
        held = bucket.get(name)
        if held is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if self.command == "DELETE":
            bucket.delete(name)
            return self.answer(204)
        data, generation, at = held
        headers = {
            "etag": f'"{generation}"',
            "x_goog_generation": str(generation),
            "last_modified": email.utils.formatdate(at, usegmt=True),
        }
        wanted = self.headers.get("range")
        if wanted is None:
            return self.answer(200, data, "application/octet-stream", **headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start >= len(data):
            return self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        headers["content_range"] = f"bytes {start}-{end}/{len(data)}"
        return self.answer(206, data[start : end + 1], "application/octet-stream", **headers)

    def parts(self, bucket: Bucket, name: str, query: dict[str, str], content: bytes) -> None:
        with bucket.lock:
            held = bucket.uploads.get(query["uploadId"])
            if held is not None and self.command == "PUT":
                held[1][int(query["partNumber"])] = content
            if held is not None and self.command in ("DELETE", "POST"):
                del bucket.uploads[query["uploadId"]]
        if held is None or held[0] != name:
            return self.answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        if self.command == "DELETE":
            return self.answer(204)
        if self.command == "PUT":
            return self.answer(200, etag=f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')
        generation = bucket.put(name, b"".join(part for _, part in sorted(held[1].items())), None)
        text = f"<CompleteMultipartUploadResult><ETag>&quot;{generation}&quot;</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, text.encode(), x_goog_generation=str(generation))

    def list_uploads(self, bucket: Bucket, query: dict[str, str]) -> None:
        with bucket.lock:
            held = [(name, upload) for upload, (name, _) in bucket.uploads.items()]
        marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        found = [pair for pair in sorted(held) if pair[0].startswith(query.get("prefix", "")) and pair > marker]
        shown, more = found[: self.page], len(found) > self.page
        uploads = "".join(
            f"<Upload><Key>{escape(name)}</Key><UploadId>{upload}</UploadId></Upload>" for name, upload in shown
        )
        end = f"<NextKeyMarker>{escape(shown[-1][0])}</NextKeyMarker><NextUploadIdMarker>{shown[-1][1]}</NextUploadIdMarker>"
        text = f"<ListMultipartUploadsResult><IsTruncated>{str(more).lower()}</IsTruncated>{end if more else ''}{uploads}"
        self.answer(200, f"{text}</ListMultipartUploadsResult>".encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", default="lake")
    parser.add_argument("--page", type=int, default=PAGE, help="names in one page of a listing")
    arguments = parser.parse_args()
    Handler.buckets[arguments.bucket] = Bucket()
    Handler.page = arguments.page
    server = Server(("127.0.0.1", arguments.port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
