"""Every kind of orphan is planted and found; what is needed is none."""

import json
import pathlib
import tempfile
import unittest

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

import lake_files

CHAIN = "_inshore/con_1/chain/00000000000000000001.json"


class LakeFilesTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.lake = pathlib.Path(temporary.name)
        table = self.lake / "shop" / "a table"
        for mode in ("append", "append", "overwrite"):
            write_deltalake(str(table), pa.table({"id": [1, 2]}), mode=mode)
        DeltaTable(str(table)).create_checkpoint()
        self.put(CHAIN, json.dumps({"kind": "commit", "state": {"object": {"name": "1-ab"}}}) + "\n{}")
        self.put("_inshore/con_1/chain/00000000000000000002.json", '{"kind": "commit", "state": {"inline": "{}"}}\n{}')
        self.put("_inshore/con_1/state/1-ab", "{}")
        self.put("_inshore/con_1/hint.json", "{}")

    def put(self, name, text=""):
        path = self.lake / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_a_clean_lake_has_no_orphans(self):
        count, orphans = lake_files.look(self.lake)
        self.assertEqual(orphans, [])
        self.assertGreaterEqual(count, 4 + 3 + 3 + 2)

    def test_each_orphan_is_found(self):
        for name in [
            "shop/a table/data/con_1/1-0-0-abcdef.parquet",
            "shop/a table/data/con_1/r1-2-0-abcdef.parquet",
            "shop/a table/_delta_log/00000000000000000003.json.tmp",
            "shop/never committed/data/con_1/1-0-0-abcdef.parquet",
            "_inshore/con_1/state/1-cd",
            "_inshore/con_1/chain/00000000000000000003.json#1",
            "_inshore/_probe/1234/key",
        ]:
            with self.subTest(name):
                self.put(name)
                self.assertEqual(lake_files.look(self.lake)[1], [name])
                (self.lake / name).unlink()


if __name__ == "__main__":
    unittest.main()
