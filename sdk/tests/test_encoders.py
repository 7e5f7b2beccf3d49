"""The Python encoder against the native one: the same connector gives the same frames, refusals and their words, under
both. Each is the other's oracle; they share no code.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import peer
import pyarrow.ipc

PYTHON = {"INSHORE_ENCODER": "python"}
SEEDS = int(os.environ.get("INSHORE_ENCODER_SEEDS", "1"))
FIRST = int(os.environ.get("INSHORE_TEST_SEED", "1"))
ROWS = 400


def told(frames):
    """Frames as comparable values. Left to each encoder are the order in which columns without a type are numbered, and
    when a name of a refused row is remembered, which decides when it is warned of."""
    for kind, payload in frames:
        if kind == peer.LOG or kind == peer.WARNING and payload["topic"] == "columns":
            continue
        if kind == peer.FAILED:
            yield kind, payload["kind"], payload["trace"].splitlines()[-1]
            continue
        if kind != peer.ROWS:
            yield kind, payload
            continue
        names = [column["name"] for column in payload["schema"]["columns"]] + payload["untyped"]
        sets = [sorted(names[place] for place in one) for one in payload["sets"]]
        with pyarrow.ipc.open_stream(payload["arrow"]) as stream:
            table = stream.read_all()
        table.validate(full=True)
        rows = [{name: shown(value) for name, value in row.items()} for row in table.to_pylist()]
        yield kind, payload["schema"], sorted(payload["untyped"]), sets, str(table.schema), rows


def shown(value):
    """NaN equals itself here, and the zeros differ."""
    return repr(value) if isinstance(value, float) else value


class EncodersTest(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def both(self, code, **settings):
        native, python = (peer.Run(self.sdk, code, environment=environment, **settings) for environment in ({}, PYTHON))
        self.assertIn("rows are encoded in Python", json.dumps(python.payloads(peer.LOG)))
        self.assertEqual(native.payloads(peer.LOG), [])
        self.assertEqual(native.exit, python.exit, native.output + python.output)
        return list(told(native.frames)), list(told(python.frames))

    def assert_same(self, code, **settings):
        native, python = self.both(code, **settings)
        for place, (expected, found) in enumerate(zip(native, python)):
            if expected != found:
                self.fail(f"frame {place}: {difference(expected, found)}")
        self.assertEqual(len(native), len(python))
        return native

    def test_generated_rows_become_the_same_frames_in_every_mode(self):
        with open(os.path.join(os.path.dirname(__file__), "generated_connector.py"), encoding="utf-8") as file:
            code = file.read()
        for mode in ("compatible", "strict", "rich"):
            for seed in range(FIRST, FIRST + SEEDS):
                for naming in ("fivetran", "source") if seed == FIRST else ("fivetran",):
                    with self.subTest(mode=mode, seed=seed, naming=naming):
                        configuration = {"seed": str(seed), "rows": str(ROWS)}
                        frames = self.assert_same(code, inference=mode, naming=naming, configuration=configuration)
                        self.assertFalse([frame for frame in frames if frame[0] == peer.FAILED], frames[-1])
                        rows = sum(len(frame[-1]) for frame in frames if frame[0] == peer.ROWS)
                        self.assertGreater(rows, ROWS // 4)

    def test_batches_are_cut_at_the_same_rows(self):
        frames = self.assert_same(
            """
from fivetran_connector_sdk import Connector, Operations as op
def update(configuration, state):
    for number in range(9000):
        op.upsert(f"t{number % 2}", {"id": number, "text": "x" * (number % 700), "f": number / 3, "b": number % 2 == 0, "none": None})
connector = Connector(update=update)
"""
        )
        self.assertGreater(sum(frame[0] == peer.ROWS for frame in frames), 3)

    def test_letters_of_every_script_are_renamed_alike(self):
        step = 1 if SEEDS > 9 else 29
        self.assert_same(
            f"STEP = {step}"
            """
import unicodedata
from fivetran_connector_sdk import Connector, Operations as op
def update(configuration, state):
    known = [code for code in range(0x80, 0x2FFFF, STEP) if unicodedata.category(chr(code)) not in ("Cs", "Co", "Cn")]
    for start in range(0, len(known), 400):
        op.upsert("t%d" % start, {f"{start}{chr(code)}x{chr(code)}": 1 for code in known[start:start + 400]})
    op.upsert("Größe\u0130日", {"a": 1}, schema="Ñandú")
connector = Connector(update=update)
"""
        )

    def test_names_are_warned_of_alike(self):
        code = """
from fivetran_connector_sdk import Connector, Operations as op
def update(configuration, state):
    op.upsert("t", {"userData": 1, "user.data": 2, "_fivetran_synced": 3, "UserData": 4})
    op.upsert("t", {"user_data": 1})
connector = Connector(update=update)
"""
        native, python = (
            [frame for frame in peer.Run(self.sdk, code, environment=environment).frames if frame[0] == peer.WARNING]
            for environment in ({}, PYTHON)
        )
        self.assertEqual(native, python)
        self.assertEqual(len(native), 4)

    def test_limits_and_endings_are_the_same(self):
        self.assert_same(
            """
from fivetran_connector_sdk import Connector, Operations as op
def update(configuration, state):
    errors = []
    for row in ({"v": "x" * (41 << 20)}, {"v": b"x" * (41 << 20)}, {"a": "x" * (30 << 20), "b": "y" * (30 << 20)}, {"v": "small"}):
        try:
            op.upsert("t", row)
        except ValueError as error:
            errors.append(str(error))
    wide = {f"c{number}": 1 for number in range(20_001)}
    names = [f"t{number}" for number in range(20_001)]
    for emit in [lambda: op.upsert("wide", wide), *(lambda name=name: op.truncate(name) for name in names)]:
        try:
            emit()
        except ValueError as error:
            errors.append(f"{error} {error.inshore_kind}")
    op.checkpoint({"errors": errors})
    op.upsert("t", {"v": "dropped"})
    raise ValueError("the end")
connector = Connector(update=update)
"""
        )

    def test_a_native_module_that_does_not_load_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            sdk = os.path.join(folder, "sdk")
            shutil.copytree(self.sdk, sdk)
            with open(os.path.join(sdk, "_inshore.abi3.so"), "wb") as file:
                file.write(b"of another platform")
            code = "from fivetran_connector_sdk import Connector, Operations as op\nconnector = Connector(lambda configuration, state: op.upsert('t', {'a': 1}))\n"
            run = peer.Run(sdk, code)
            self.assertEqual(run.values(), [{"a": 1}], run.output)
            self.assertIn("rows are encoded in Python", json.dumps(run.payloads(peer.LOG)))

    def test_a_signal_handler_that_emits_is_served_or_refused(self):
        code = """
import signal
from fivetran_connector_sdk import Connector, Operations as op
def update(configuration, state):
    outcomes = []
    def handler(*_):
        try:
            op.upsert("handled", {"a": 1})
            outcomes.append("served")
        except RuntimeError:
            outcomes.append("refused")
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for number in range(4000):
        op.upsert("t", {"a": number, "b": str(number)})
    signal.setitimer(signal.ITIMER_REAL, 0)
    op.checkpoint({"outcomes": len(outcomes), "served": outcomes.count("served")})
connector = Connector(update=update)
"""
        run = peer.Run(self.sdk, code, environment=PYTHON)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        (state,) = (checkpoint["state"] for checkpoint in run.payloads(peer.CHECKPOINT))
        self.assertGreater(state["outcomes"], 0)
        rows = run.values()
        self.assertEqual([row["a"] for row in rows if "b" in row], list(range(4000)))
        self.assertEqual(sum("b" not in row for row in rows), state["served"])


class ChoiceTest(unittest.TestCase):
    def test_both_have_the_same_functions(self):
        script = """
import inspect, sys
sys.path.insert(0, sys.argv[1])
import _inshore
from inshore_encoder import session
for name in sorted(name for name in dir(_inshore) if not name.startswith("_")):
    native, python = (inspect.signature(getattr(module, name)) for module in (_inshore, session))
    assert str(native) == str(python), (name, str(native), str(python))
    print(name)
"""
        folder = peer.staged_sdk()
        self.addCleanup(shutil.rmtree, folder)
        names = subprocess.check_output([sys.executable, "-I", "-c", script, folder], text=True).split()
        self.assertGreater(len(names), 12)

    def test_the_variable_chooses_python(self):
        script = "import sys; sys.path.insert(0, sys.argv[1]); from inshore_encoder import encoder; print(encoder.__name__)"
        folder = os.path.join(peer.REPOSITORY, "sdk", "python")
        shown = subprocess.check_output([sys.executable, "-I", "-c", script, folder], env={**os.environ, **PYTHON}, text=True)
        self.assertEqual(shown.strip(), "inshore_encoder.session")


def difference(expected, found):
    """The first place where two frames differ."""
    for part, (left, right) in enumerate(zip(expected, found)):
        if left != right and isinstance(left, list) and isinstance(right, list):
            for row, (one, other) in enumerate(zip(left, right)):
                if one != other and isinstance(one, dict):
                    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
                    return f"row {row}: " + "; ".join(f"{key}: native {one.get(key)!r}, Python {other.get(key)!r}" for key in keys)
        if isinstance(left, dict) and "state" in left and isinstance(right, dict):
            pairs = zip(left["state"]["errors"], right["state"]["errors"])
            return next((f"native {one}, Python {other}" for one, other in pairs if one != other), "one has more errors")
        if left != right:
            return f"part {part}: native {str(left)[:1500]}\nPython {str(right)[:1500]}"
    return "of different length"


if __name__ == "__main__":
    unittest.main()
