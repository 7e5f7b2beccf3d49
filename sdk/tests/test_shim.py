"""The Python surface over the built native module: python3 -m unittest discover -s sdk/tests"""

import shutil
import unittest

import peer

PRELUDE = "from fivetran_connector_sdk import Connector, Logging as log, Operations as op\n"


class ShimTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def update(self, body, schema="None"):
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        code = f"def update(configuration, state):\n{lines}\nconnector = Connector(update=update, schema={schema})"
        return peer.Run(self.sdk, PRELUDE + code)

    def column_types(self, body, columns=None):
        schema = "None" if columns is None else f"lambda c: [{{'table': 't', 'columns': {columns!r}}}]"
        run = self.update(body, schema)
        self.assertEqual(run.payloads(peer.FAILED), [])
        (header,) = run.rows()
        return {column["name"]: column["data_type"] for column in header["schema"]["columns"]}

    def test_import_surface(self):
        run = peer.Run(
            self.sdk,
            """
            from fivetran_connector_sdk import *
            assert "Connector" not in globals() and Logging and Operations
            import fivetran_connector_sdk as sdk
            from fivetran_connector_sdk.operations import Operations as same
            assert same is Operations and sdk.Connector.__module__ == "fivetran_connector_sdk"
            assert sdk.__version__.startswith("2.13.1+inshore.")
            connector = sdk.Connector(lambda configuration, state: None)
            """,
        )
        self.assertEqual(run.payloads(peer.FAILED), [])

    def test_undeclared_columns_are_inferred_from_plain_values(self):
        body = """
import collections, datetime, decimal, enum, uuid
class Colour(str, enum.Enum):
    RED = "red"
class Size(enum.IntEnum):
    BIG = 3
op.upsert("t", {"none": None, "flag": True, "small": 1, "big": 2**40, "huge": 2**70, "giant": 10**40,
    "low": -2**63, "real": 3.0, "nan": float("nan"), "text": "42", "bytes": b"x", "dict": {"a": 1}, "list": [1],
    "tuple": (1, 2), "decimal": decimal.Decimal("1.5"), "moment": datetime.datetime(2024, 1, 2),
    "uuid": uuid.UUID(int=1), "colour": Colour.RED, "size": Size.BIG, "ordered": collections.OrderedDict(a=1)})"""
        types = self.column_types(body)
        expected = {
            "flag": "BOOLEAN", "small": "INT", "big": "LONG", "huge": "DECIMAL(38,0)", "giant": "STRING",
            "low": "LONG", "real": "DOUBLE", "nan": "DOUBLE", "text": "STRING", "bytes": "BINARY", "dict": "JSON",
            "list": "JSON", "tuple": "STRING", "decimal": "STRING", "moment": "STRING", "uuid": "STRING",
            "colour": "STRING", "size": "INT", "ordered": "JSON",
        }  # fmt: skip
        self.assertEqual(types, expected)

    def test_json_is_what_json_dumps_writes(self):
        body = r"""
import collections, enum, json, math, random, struct
class Text(str, enum.Enum):
    RED = "red"
dice = random.Random(7)
any_float = lambda: struct.unpack("d", struct.pack("Q", dice.getrandbits(64)))[0]
floats = [0.0, -0.0, 1.0, 0.1, 1e-4, 9.999e-5, 1e-5, 1e15, 9999999999999998.0, 1e16, 1.5e16, 1e22, 1e23, -1.5e300, 5e-324]
floats += [math.inf, -math.inf, math.nan, 1 / 3, *(any_float() for _ in range(2000))]
any_text = lambda: "".join(chr(dice.choice([dice.randrange(128), dice.randrange(0xd7ff)])) for _ in range(9))
texts = ["", '"', "\\", "/", "\b\f\n\r\t\x00\x1f\x7f ~", "é\u2028\uffff", "\U0001f600\U0010ffff", "\ud800"]
texts += [any_text() for _ in range(500)]
deep = []
for _ in range(100):
    deep = [deep, {"a": deep[:0]}]
values = [{}, [], {"a": {}, "b": 1}, [[], {}], [(), (1, "a")], [1, -1, 2**63 - 1, -2**63, 2**63, 10**40], [True, False, None]]
values += [deep, {"": 1, "é": [Text.RED, collections.OrderedDict(b=2)]}, {1: "int", 2.5: "float", True: "bool", None: "none"}]
values += [floats, texts, *({text: number} for text, number in zip(texts, floats))]
scalars = [*floats, *texts, True, False, 7, 2**70, (), (1, 2)]
for value in values:
    op.upsert("t", {"inferred": value, "declared": value})
for value in scalars:
    op.upsert("t", {"declared": value})
text_of = lambda values: "".join(json.dumps(value) for value in values)
op.checkpoint({"inferred": text_of(values), "declared": text_of(values + scalars)})"""
        run = self.update(body, "lambda c: [{'table': 't', 'columns': {'declared': 'JSON'}}]")
        self.assertEqual(run.payloads(peer.FAILED), [])
        (rows,), (checkpoint,) = run.rows(), run.payloads(peer.CHECKPOINT)
        types = {column["name"]: column["data_type"] for column in rows["schema"]["columns"]}
        self.assertEqual(types, {"declared": "JSON", "inferred": "JSON"})
        for column, text in checkpoint["state"].items():
            # The texts of a column lie one after the other.
            self.assertTrue(text.encode() in rows["arrow"], f"{column} holds other texts than json.dumps writes")

    def test_declared_columns_accept_what_they_should(self):
        columns = {
            "b": "boolean", "i": "INT", "d": {"type": "DECIMAL", "precision": 8, "scale": 2}, "f": "FLOAT",
            "x": "BINARY", "s": "STRING", "j": "JSON", "day": "NAIVE_DATE", "at": "NAIVE_DATETIME", "z": "UTC_DATETIME",
        }  # fmt: skip
        body = """
import datetime as dt, decimal
zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
op.upsert("t", {"b": 1, "i": "7", "d": decimal.Decimal("1E+2"), "f": "1.5", "x": bytearray(b"x"), "s": {"a": 1},
    "j": "text", "day": dt.datetime(2024, 1, 2), "at": dt.datetime(2024, 1, 2, tzinfo=zone), "z": "2024-01-02T03:04:05Z"})
op.upsert("t", {"b": False, "i": 7.0, "d": 3, "f": 2, "x": b"", "s": None, "j": None, "day": dt.date(1900, 1, 1),
    "at": "2024-01-02 03:04:05", "z": dt.date(2024, 1, 2)})"""
        types = self.column_types(body, columns)
        self.assertEqual(types["d"], "DECIMAL(8,2)")
        self.assertEqual((types["day"], types["at"], types["z"]), ("NAIVE_DATE", "NAIVE_DATETIME", "UTC_DATETIME"))

    def test_declared_columns_refuse_in_the_callers_thread(self):
        cases = [
            ("UTC_DATETIME", "5"), ("NAIVE_DATE", "True"), ("BINARY", "'text'"), ("INT", "'many'"), ("XML", "3"),
            ({"type": "DECIMAL", "precision": 8, "scale": 2}, "True"), ("BOOLEAN", "object()"),
        ]  # fmt: skip
        for kind, value in cases:
            with self.subTest(kind=kind, value=value):
                schema = f"lambda c: [{{'table': 't', 'columns': {{'c': {kind!r}}}}}]"
                run = self.update(f"op.upsert('t', {{'c': {value}}})", schema)
                self.assertEqual(run.failure()["kind"], "value", run.frames)

    def test_the_key_is_needed_whole(self):
        schema = "lambda c: [{'table': 't', 'primary_key': ['a', 'b']}]"
        for body, kind in [
            ("op.delete('t', {'a': 1})", "key_partial"),
            ("op.update('t', {'a': 1, 'c': 2})", "key_partial"),
            ("op.upsert('t', {'a': 1, 'b': None})", "key_null"),
            ("op.update('other', {'a': 1})", "key_required"),
        ]:
            with self.subTest(body=body):
                self.assertEqual(self.update(body, schema).failure()["kind"], kind)

    def test_a_mapping_that_is_no_dict(self):
        body = """
class Row:
    def items(self):
        yield "a", 1
        yield b"b", 2
op.upsert("t", Row())"""
        self.assertEqual(self.column_types(body), {"a": "INT", "b": "INT"})

    def test_keys_that_are_new_objects_every_time(self):
        run = self.update("for i in range(5000):\n    op.upsert('t', {''.join(['a', 'b']): i, 'c%d' % (i % 3): 1})")
        names = [column["name"] for column in run.rows()[-1]["schema"]["columns"]]
        self.assertEqual(names, ["ab", "c_0", "c_1", "c_2"])

    def test_colliding_names_warn_once(self):
        run = self.update("for i in range(3):\n    op.upsert('t', {'userName': 1, 'user.name': 2})")
        self.assertEqual([warning["topic"] for warning in run.payloads(peer.WARNING)], ["columns"])

    def test_states_near_the_limit_or_not_objects_warn_once(self):
        run = self.update("for i in range(2):\n    op.checkpoint([1])\n    op.checkpoint('x' * (9 << 20))")
        self.assertEqual([warning["topic"] for warning in run.payloads(peer.WARNING)], ["state", "state"])

    def test_log_lines_are_one_json_object_each(self):
        run = self.update("log.info('a\\nb')\nlog.severe('c', ValueError('d'))\nlog.debug('e')\nlog.LOG_LEVEL = log.Level.WARNING\nlog.info('f')")
        lines = run.output.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0], '{"level": "INFO", "message": "a\\nb", "message_origin": "connector_sdk"}')
        self.assertIn("ValueError: d", lines[1])

    def test_operations_outside_a_sync_are_refused(self):
        run = self.update("import threading, atexit\natexit.register(lambda: op.upsert('t', {'a': 1}))")
        self.assertEqual(run.payloads(peer.END), [{"exit": "finished"}])
        self.assertIn("the sync has ended", run.output)

    def test_a_declared_decimal_is_fitted_with_a_warning(self):
        schema = "lambda c: [{'table': 't', 'columns': {'d': {'type': 'DECIMAL', 'precision': 50, 'scale': 60}}}]"
        run = self.update("pass", schema)
        self.assertEqual(run.payloads(peer.SCHEMA)[0]["tables"][0]["columns"][0]["data_type"], "DECIMAL(38,37)")
        self.assertEqual([warning["topic"] for warning in run.payloads(peer.WARNING)], ["schema"])


if __name__ == "__main__":
    unittest.main()
