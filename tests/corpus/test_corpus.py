"""The driver of public projects, on a corpus made here: what it calls equal, different and failed. No network."""

import io
import json
import pathlib
import sys
import tempfile
import textwrap
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import corpus as driver  # noqa: E402
import recipes  # noqa: E402
import tables  # noqa: E402

COMPARE = """
    import json, pathlib, sys
    folder = pathlib.Path(__file__).parents[1]
    wanted = json.loads((folder / "expected" / "rows" / f"{sys.argv[1]}.json").read_text())
    found = {table: content["rows"] for table, content in json.loads(pathlib.Path(sys.argv[2]).read_text()).items()}
    print("equal" if found == wanted else f"rows are {found}")
    sys.exit(found != wanted)
"""


class FakeRunner:
    """Stands for the product: returns what it was told, or raises it."""

    def __init__(self, answers):
        self.answers = answers

    def run(self, recipe):
        answer = self.answers[recipe.name]
        if isinstance(answer, Exception):
            raise answer
        return answer


class CorpusTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.write("corpus/harness/compare.py", textwrap.dedent(COMPARE))
        self.write("source/shop/orders/connector.py", "connector = 1\n")
        self.write("source/shop/orders/requirements.txt", "six\n")

    def write(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def recipe(self, name, rows=(), syncs=(), **fields):
        text = json.dumps({"name": name, "repo": "shop", "path": "orders", "syncs": len(syncs), **fields})
        self.write(f"corpus/recipes/{name}.json", text)
        self.write(f"corpus/expected/{name}.json", json.dumps({"python": "3.11", "syncs": syncs}))
        self.write(f"corpus/expected/rows/{name}.json", json.dumps({"orders": list(rows)}))

    def corpus(self):
        return recipes.Corpus(
            self.folder / "corpus", self.folder / "source", self.folder / "run", self.folder / "tools"
        )

    def run_all(self, answers):
        out = io.StringIO()
        ok = driver.run_all(FakeRunner(answers), self.corpus(), sorted(answers), out)
        return ok, out.getvalue()

    def test_only_equal_tables_outcomes_and_states_are_equal(self):
        sync = {"ok": True, "final_state": {"at": 1, "now": 5}, "state_volatile_paths": [".now"]}
        names = ("a-equal", "b-rows", "c-outcome", "d-state", "e-failed")
        for name in names:
            self.recipe(name, rows=[{"id": 1}], syncs=[sync])
        found = {"orders": {"rows": [{"id": 1}], "deleted": []}}
        good = [(True, {"at": 1, "now": 9})]
        ok, text = self.run_all({
            "a-equal": (found, good),
            "b-rows": ({"orders": {"rows": [{"id": 2}], "deleted": []}}, good),
            "c-outcome": (found, [(False, {"at": 1, "now": 9})]),
            "d-state": (found, [(True, {"at": 2})]),
            "e-failed": driver.Failed("no warehouse"),
        })
        self.assertFalse(ok)
        for word, name in zip(("equal", "differs", "differs", "differs", "failed"), names):
            self.assertRegex(text, rf"(?m)^{word} +{name} ")
        for words in ("rows are", "sync 1 failed, expected that it succeeded", "differs at .at", "no warehouse"):
            self.assertIn(words, text)
        self.assertIn("1 equal, 3 differs, 1 failed of 5 recipes", text)
        self.assertEqual(self.run_all({"a-equal": (found, good)})[0], True)

    def test_a_recipe_says_what_the_connector_sees(self):
        self.recipe(
            "x", syncs=[], mitm=True, env={"AT": "$RUN/x"}, config={"a": "1", "f": "$b64file:$CORPUS/recipes/x.json"},
            config_by_sync={"2": {"a": "2"}},
        )
        recipe = self.corpus().recipe("x")
        self.assertEqual([recipe.configuration(number)["a"] for number in (1, 2)], ["1", "2"])
        self.assertNotIn("$", recipe.configuration(1)["f"])
        variables = recipe.own_variables()
        self.assertEqual(variables["AT"], f"{self.folder}/run/x")
        self.assertIn("127.0.0.1", variables["HTTPS_PROXY"])
        self.assertFalse(recipe.needs_nothing_else)

    def test_a_project_is_copied_with_what_the_recipe_adds(self):
        self.recipe("x", syncs=[], extra_requirements=["idna"], project_setup=["echo set > $PROJECT/set.txt"])
        copied = self.corpus().recipe("x").copy(self.folder / "run" / "x")
        self.assertEqual((copied / "requirements.txt").read_text(), "six\nidna\n")
        self.assertEqual((copied / "set.txt").read_text(), "set\n")
        self.recipe("y", syncs=[], project_setup=["echo no; exit 3"])
        with self.assertRaisesRegex(recipes.CorpusError, "setup failed: .*: no"):
            self.corpus().recipe("y").copy(self.folder / "run" / "y")
        with self.assertRaisesRegex(recipes.CorpusError, "no recipe 'z'"):
            self.corpus().recipe("z")

    def test_deleted_rows_and_added_columns_are_apart(self):
        columns = ["id", "raw", "_fivetran_deleted", "_fivetran_synced"]
        found = tables.split(columns, [(1, b"\x00", False, "t"), (2, None, True, "t")])
        self.assertEqual(found, {"rows": [{"id": 1, "raw": "AA=="}], "deleted": [{"id": 2, "raw": None}]})
        self.assertEqual(tables.table_name("tester", "a"), "a")
        self.assertEqual(tables.table_name("tester_shop", "a"), "shop.a")

    def test_states_differ_where_they_differ(self):
        self.assertEqual(recipes.differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "d": 0}), [".a.c", ".d"])
        self.assertEqual(recipes.differing([1], [2]), ["."])
        self.assertEqual(recipes.differing({}, {}), [])


if __name__ == "__main__":
    unittest.main()
