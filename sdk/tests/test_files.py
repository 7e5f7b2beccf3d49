"""Files beside rows: their bytes leave in bounded chunks before the row, a file that fails leaves no row, and nobody waits
for ever."""

import shutil
import textwrap
import unittest

import peer

HEAD = """
import io, threading, time
from fivetran_connector_sdk import Connector, FileUpload, Operations as op, limits

def check(kind, call, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError("nothing was raised")

class Stream:
    def __init__(self, *chunks):
        self.chunks, self.asked = list(chunks), []
    def read(self, size):
        self.asked.append(size)
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk
"""


class FilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def update(self, body, schema="None", **start):
        lines = textwrap.indent(textwrap.dedent(body), "    ")
        code = f"{HEAD}\ndef update(configuration, state):\n{lines}\nconnector = Connector(update, {schema})"
        run = peer.Run(self.sdk, code, **{"files": True, **start})
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        return run

    def test_a_file_goes_in_chunks_before_its_row_and_its_checkpoint(self):
        run = self.update(
            """
            big = bytes(range(256)) * (20 * 1024)
            stream = Stream(big[:3], big[3:])
            op.upsert("t", {"id": 1}, file=FileUpload("a/big.bin", stream, expected_bytes=len(big)))
            assert set(stream.asked) == {limits.FILE_CHUNK_BYTES} and len(stream.asked) == 3
            op.update("t", {"id": 2, "_fivetran_file_path": "mine"}, file=FileUpload("empty", io.BytesIO()))
            op.upsert("t", {"id": 3, "_fivetran_file_path": "mine"}, file=FileUpload("ü €", Stream(bytearray(b"x"), memoryview(b"y"))))
            op.checkpoint({})
            op.upsert("t", {"id": 4, "_fivetran_file_path": "kept"})
            """,
            schema="lambda configuration: [{'table': 't', 'primary_key': ['id']}]",
        )
        big = bytes(range(256)) * (20 * 1024)
        self.assertEqual(run.files(), {"a/big.bin": big, "empty": b"", "ü €": b"xy"})
        self.assertLessEqual(max(len(chunk) for _, chunk in run.payloads(peer.FILE_CHUNK)), 2 * 1024 * 1024)
        paths = [(row["id"], row["_fivetran_file_path"]) for row in run.values()]
        self.assertEqual(paths, [(1, "a/big.bin"), (2, "empty"), (3, "ü €"), (4, "kept")])
        kinds = [kind for kind, _ in run.frames]
        self.assertGreater(kinds.index(peer.CHECKPOINT), max(at for at, kind in enumerate(kinds) if kind == peer.FILE_END))
        self.assertGreater(kinds.index(peer.CHECKPOINT), kinds.index(peer.ROWS))
        warnings = [warning["message"] for warning in run.payloads(peer.WARNING)]
        self.assertEqual(len([text for text in warnings if "_fivetran_file_path" in text]), 1, warnings)
        self.assertEqual(run.payloads(peer.FILE_END)[0]["table"], {"schema": "shop", "table": "t"})

    def test_a_file_that_fails_is_abandoned_with_its_row_and_the_connector_may_go_on(self):
        run = self.update(
            """
            send = lambda stream, **more: op.upsert("t", {"id": 1}, file=FileUpload("a", stream, **more))
            check(TypeError, lambda: send(Stream(b"ab", "text")), "bytes", "str")
            check(TypeError, lambda: send(Stream(None)), "NoneType")
            check(OSError, lambda: send(Stream(b"ab", OSError("reset"))), "reset")
            check(ValueError, lambda: send(Stream(b"ab"), expected_bytes=3), "2", "3")
            check(ValueError, lambda: send(Stream(b"ab", b"cd"), expected_bytes=3), "3")
            check(ValueError, lambda: send(Stream(b"ab"), expected_bytes=6 << 30), "limit")
            limits.FILE_BYTES_MAX = 3
            check(ValueError, lambda: send(Stream(b"ab", b"cd")), "limit")
            limits.FILE_BYTES_MAX = 5 << 30
            limits.FILE_READ_SECONDS_MAX = 0.2
            class Slow:
                def read(self, size):
                    time.sleep(5)
            check(TimeoutError, lambda: send(Slow()), "seconds")
            limits.FILE_READ_SECONDS_MAX = 300
            # The row is wrong, its file is right.
            check(ValueError, lambda: op.upsert("t", {"id": 1, "day": "never"}, file=FileUpload("a", Stream(b"ab"))))
            check(AttributeError, lambda: op.upsert("t", None, file=FileUpload("a", Stream(b"ab"))))
            for path in ("a\\nb", "a/./b", "x" * 256, "y/" * 600 + "z", "\\ud800"):
                check(ValueError, lambda: op.upsert("t", {"id": 1}, file=FileUpload(path, Stream())))
            op.upsert("t", {"id": 2}, file=FileUpload("x" * 255, Stream(b"good")))
            """,
            schema="lambda configuration: [{'table': 't', 'primary_key': ['id'], 'columns': {'day': 'NAIVE_DATE'}}]",
        )
        self.assertEqual(run.files(), {"x" * 255: b"good"})
        self.assertEqual([row["id"] for row in run.values()], [2])
        begun = {number for number, _ in run.payloads(peer.FILE_CHUNK)}
        left = begun - {end["upload"] for end in run.payloads(peer.FILE_END)}
        self.assertLessEqual(left, {gone["upload"] for gone in run.payloads(peer.FILE_ABANDON)})

    def test_files_of_many_threads_and_of_streams_that_upload_themselves(self):
        run = self.update(
            """
            class Nested:
                def __init__(self, number):
                    self.number, self.done = number, False
                def read(self, size):
                    if self.done:
                        return b""
                    self.done = True
                    op.upsert("inner", {"id": self.number}, file=FileUpload(f"in/{self.number}", io.BytesIO(b"i" * self.number)))
                    return b"o" * self.number
            def work(number):
                op.upsert("outer", {"id": number}, file=FileUpload(f"out/{number}", Nested(number)))
            threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            """
        )
        expected = {f"out/{n}": b"o" * n for n in range(40)} | {f"in/{n}": b"i" * n for n in range(40)}
        self.assertEqual(run.files(), expected)
        self.assertEqual(len(run.values()), 80)

    def test_what_is_not_caught_names_the_failure(self):
        cases = [
            ("FileUpload('a', Stream(b'a'), expected_bytes=2)", "file_refused"),
            ("FileUpload('a', Stream('text'))", "file_refused"),
            ("FileUpload('a', Stream(), expected_bytes=6 << 30)", "file_size"),
        ]
        for upload, kind in cases:
            with self.subTest(upload=upload):
                code = f"{HEAD}\ndef update(configuration, state):\n    op.upsert('t', {{'id': 1}}, file={upload})\n"
                run = peer.Run(self.sdk, code + "connector = Connector(update)", files=True)
                self.assertEqual(run.failure()["kind"], kind, run.output)


if __name__ == "__main__":
    unittest.main()
