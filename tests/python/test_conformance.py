"""The conformance suite's own checks: a difference that is not listed is found, and so is one that no longer exists."""

import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "conformance"))

from case import Case, Table  # noqa: E402
from original import documented, path  # noqa: E402
from original.destination import Destination, join, words  # noqa: E402

PAGE = """
| what | the original | here | why | cases |
|---|---|---|---|---|
| floats | 32 bits | 64 bits | digits | `shown`, (`platform`) |
"""


class DocumentedTest(unittest.TestCase):
    def problems(self, page, different, existing=("shown", "platform")):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "page.md")
            file.write_text(page)
            with mock.patch.object(documented, "PAGE", file), mock.patch.object(documented, "noted", lambda: different):
                return "; ".join(documented.problems(existing))

    def test_a_page_that_lists_every_difference_is_right(self):
        self.assertEqual(self.problems(PAGE, {"shown": ["a"]}), "")

    def test_a_difference_that_is_not_listed(self):
        self.assertIn("the difference in new is not listed", self.problems(PAGE, {"shown": ["a"], "new": ["b"]}, ("shown", "platform", "new")))

    def test_a_listed_difference_that_is_gone(self):
        self.assertIn("shown does not differ", self.problems(PAGE, {}))

    def test_a_row_without_a_case_and_a_case_that_is_not_there(self):
        self.assertIn("no case for", self.problems(PAGE.replace("`shown`, (`platform`)", ""), {}))
        self.assertIn("there is no case platform", self.problems(PAGE, {"shown": ["a"]}, ("shown",)))

    def test_a_page_without_tables(self):
        self.assertIn("no table", self.problems("nothing", {}))


class OriginalTest(unittest.TestCase):
    """What the original's stream becomes, and how a difference is told."""

    def run_stream(self, *events, ended="OK", schema=None):
        destination = Destination("FIVETRAN")
        said = {"schema": schema, "events": list(events), "ended": ended, "details": ""}
        return destination, destination.sync(said)

    CASE = Case("t", tables={"t": Table({"id": "INT", "v": "DOUBLE"}, [(1, 0.5)])})
    KEYED = [[None, "T", [["id", "UNSPECIFIED", True, 0, 0]]]]

    def told(self, value):
        row = ["UPSERT", None, "T", {"id": ["long", 1], "v": value}]
        destination, _ = self.run_stream(row, schema=self.KEYED)
        return path.told(self.CASE, (destination.found(), {}, None, ""))

    def test_the_same_tables_differ_in_nothing(self):
        self.assertEqual(self.told(["double", "0.5"]), [])

    def test_another_type_or_value_is_told(self):
        self.assertEqual(self.told(["float", "0.5"]), ["t: v is float"])
        self.assertEqual(self.told(["double", "0.25"]), ["t: a row is id i:1, v f:0.25", "t: there is no row id i:1, v f:0.5"])

    def test_a_task_ends_at_the_checkpoint_and_an_exception_after_the_last_row(self):
        row = ["UPSERT", None, "t", {"id": ["long", 1]}]
        events = [row, ["CHECKPOINT", {"at": 1}], ["UPSERT", None, "t", {"id": ["long", 2]}]]
        for ended, rows in (("TASK", 1), ("UNKNOWN", 2)):
            destination, succeeded = self.run_stream(*events, ended=ended, schema=[])
            self.assertFalse(succeeded)
            self.assertEqual((len(destination.found()["t"].rows), destination.state), (rows, {"at": 1}))

    def test_types_join_to_the_smallest_that_holds_both(self):
        for a, b, joined in (
            ("INT", "LONG", "LONG"), ("LONG", "DECIMAL(10,2)", "DECIMAL(21,2)"), ("DECIMAL(38,0)", "DECIMAL(2,1)", "STRING"),
            ("FLOAT", "INT", "DOUBLE"), ("DECIMAL(15,2)", "FLOAT", "DOUBLE"), ("NAIVE_DATE", "NAIVE_DATETIME", "NAIVE_DATETIME"),
            ("UTC_DATETIME", "NAIVE_DATETIME", "STRING"), ("BOOLEAN", "INT", "STRING"),
        ):  # fmt: skip
            self.assertEqual((join(a, b, True), join(b, a, True)), (joined, joined))
        self.assertEqual(join("LONG", "DOUBLE", False), "STRING")

    def test_names(self):
        for name, renamed in (("userID", "user_id"), ("7d_click", "_7_d_click"), ("__double__under__", "_double_under_"), ("", "_")):
            self.assertEqual(words(name), renamed)
        self.assertEqual(words("_hidden", table=True), "hidden")


if __name__ == "__main__":
    unittest.main()
