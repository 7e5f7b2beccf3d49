"""The model of scripted sources, against tables written by an independent library."""

import os
import tempfile
import unittest

import deltalake
import pyarrow

import script_model

SCRIPT = [
    [{"table": "keyed", "primary_key": ["id"]}],
    ["u", "keyed", {"id": 1, "n": 1}],
    ["u", "keyed", {"id": 2, "n": 1}],
    ["c", 0],
    ["u", "keyed", {"id": 3, "n": 1}],
    ["t", "keyed"],
    ["p", "keyed", {"id": 1, "n": 9}],
    ["u", "keyed", {"id": 2, "n": 2}],
    ["d", "keyed", {"id": 7}],
]
WANTED = [{"id": 1, "n": 1, "_fivetran_deleted": True}, {"id": 2, "n": 2, "_fivetran_deleted": False}]


class ScriptModel(unittest.TestCase):
    def verdict(self, rows):
        with tempfile.TemporaryDirectory() as lake:
            deltalake.write_deltalake(os.path.join(lake, "shop", "keyed"), pyarrow.Table.from_pylist(rows))
            result = script_model.compare(SCRIPT, lake, "shop")
        return [result[name] for name in ("rows", "lost", "duplicated", "changed")]

    def test_what_the_script_leads_to_is_exact(self):
        self.assertEqual(self.verdict(WANTED), [2, 0, 0, 0])

    def test_every_kind_of_damage_is_counted(self):
        first, second = WANTED
        self.assertEqual(self.verdict([first]), [1, 1, 0, 0])
        self.assertEqual(self.verdict([first, second, second]), [3, 0, 1, 0])
        self.assertEqual(self.verdict([first, {**second, "n": 3}]), [2, 0, 0, 1])
        self.assertEqual(self.verdict([{**first, "_fivetran_deleted": False}, second]), [2, 0, 0, 1])
        self.assertEqual(self.verdict([first, second, {**second, "id": 3}]), [3, 0, 0, 1])

    def test_the_same_seed_gives_the_same_script(self):
        scripts = [list(script_model.generate(5, 300, 10)) for _ in range(2)]
        self.assertEqual(*scripts)
        self.assertEqual(sum(line[0] == "c" for line in scripts[0]), 10)


if __name__ == "__main__":
    unittest.main()
