"""Files, forms and setup tests: their checks, and what the host answers when it is asked for them."""

import shutil
import textwrap
import unittest

import peer

FORM = """
from fivetran_connector_sdk import Connector, ConfigurationForm, Test, form_field
from fivetran_connector_sdk import Logging as log

def reaches(configuration):
    log.info("testing")
    return Test().success() if configuration["host"] == "h" else Test().failure("no such host")

def refuses(configuration):
    return Test().failure("always")

def forgets(configuration):
    return True

def raises(configuration):
    raise KeyError("gone")

def leaves(configuration):
    raise SystemExit(0)

def configuration_form():
    option = form_field.DropdownFieldParam
    return (
        ConfigurationForm()
        .add_field(form_field.TextField("host", "Host", description="where", placeholder="db.local", required=True))
        .add_field(form_field.TextField(name="key", label="Key", field_type=form_field.TextField.password))
        .add_field(form_field.DropdownField("size", "Size", fields=[option(3), option("l", label="Large", description="big")]))
        .add_field(form_field.ToggleField("on", "On", required=False))
        .add_test(label="Reaches", func=reaches)
        .add_test(label="Refuses", func=refuses)
        .add_test(label="Forgets", func=forgets)
        .add_test(label="Raises", func=raises)
        .add_test(label="Leaves", func=leaves)
    )

def update(configuration, state):
    raise AssertionError("a question runs no sync")

connector = Connector(update=update, configuration_form=configuration_form)
"""

CHECKS = """
import io
from fivetran_connector_sdk import Connector, ConfigurationForm, FileUpload, ByteStream, Operations as op, Test, form_field
from fivetran_connector_sdk.file_upload import FilesUnsupported

def outcome(call):
    try:
        call()
    except Exception as error:
        return type(error)

def check(expected, call):
    found = outcome(call)
    assert found is expected, (call.__code__.co_firstlineno, found)

def named(configuration):
    pass

form, body = ConfigurationForm(), io.BytesIO(b"x")
twice = form.add_test(label="a", func=named)
assert twice is form
"""


class FormsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def answer(self, code=FORM, **start):
        run = peer.Run(self.sdk, code, **start)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        self.assertEqual(run.payloads(peer.SCHEMA), [])
        (answer,) = run.payloads(peer.ANSWER)
        return answer

    def check(self, body):
        """Module-level statements, then one sync whose update does nothing."""
        code = CHECKS + textwrap.dedent(body) + "\nconnector = Connector(lambda configuration, state: None)\n"
        run = peer.Run(self.sdk, code)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)

    def test_the_form_as_json(self):
        form = self.answer(mode="form")["form"]
        self.assertEqual(
            form["fields"],
            [
                {
                    "name": "host", "label": "Host", "required": True, "description": "where", "placeholder": "db.local",
                    "type": "text",
                },
                {"name": "key", "label": "Key", "required": False, "type": "password"},
                {
                    "name": "size", "label": "Size", "required": False, "type": "dropdown",
                    "options": [
                        {"value": "3", "label": "3", "description": None},
                        {"value": "l", "label": "Large", "description": "big"},
                    ],
                },
                {"name": "on", "label": "On", "required": False, "type": "toggle"},
            ],
        )  # fmt: skip
        self.assertEqual([test["name"] for test in form["tests"]], ["reaches", "refuses", "forgets", "raises", "leaves"])
        self.assertEqual(form["tests"][0], {"name": "reaches", "label": "Reaches"})

    def test_a_connector_without_a_form(self):
        code = "from fivetran_connector_sdk import Connector\nconnector = Connector(print)"
        self.assertEqual(self.answer(code, mode="form"), {"form": None})
        self.assertEqual(self.answer(code, mode="test"), {"tests": []})

    def test_every_setup_test_has_its_outcome(self):
        tests = self.answer(mode="test", configuration={"host": "h"})["tests"]
        outcomes = {test["name"]: test["outcome"] for test in tests}
        expected = {"reaches": "passed", "refuses": "failed", "forgets": "failed", "raises": "raised", "leaves": "raised"}
        self.assertEqual(outcomes, expected)
        messages = {test["name"]: test.get("message") for test in tests}
        self.assertEqual((messages["reaches"], messages["refuses"]), (None, "always"))
        self.assertIn("returned bool", messages["forgets"])
        self.assertIn("KeyError: 'gone'", messages["raises"])
        self.assertIn("connector.py", messages["raises"])
        self.assertNotIn("inshore_form", messages["raises"])

    def test_single_setup_tests(self):
        tests = self.answer(mode="test", configuration={"host": "other"}, tests=["refuses", "reaches"])["tests"]
        self.assertEqual([(test["name"], test["message"]) for test in tests], [("refuses", "always"), ("reaches", "no such host")])
        failure = peer.Run(self.sdk, FORM, mode="test", tests=["nosuch"]).failure()
        self.assertEqual(failure["kind"], "form")
        self.assertIn("nosuch", failure["trace"])

    def test_a_form_that_is_none(self):
        code = "from fivetran_connector_sdk import Connector\nconnector = Connector(print, configuration_form=lambda: None)"
        self.assertEqual(peer.Run(self.sdk, code, mode="form").failure()["kind"], "form")

    def test_forms_are_checked(self):
        self.check(
            """
            check(TypeError, lambda: form.add_field("x"))
            check(TypeError, lambda: form.add_field(form_field.TextField))
            check(TypeError, lambda: form.add_test("a", named))
            check(TypeError, lambda: form.add_test(label="a", func=3))
            check(ValueError, lambda: form.add_test(label="", func=print))
            check(ValueError, lambda: form.add_test(label="a", func=lambda c: None))
            check(ValueError, lambda: form.add_test(label="b", func=named))
            check(ValueError, lambda: form_field.DropdownField("a", "A", fields=[]))
            check(TypeError, lambda: form_field.DropdownField("a", "A"))
            check(TypeError, lambda: form_field.DropdownField("a", "A", fields=["x"]))
            check(TypeError, lambda: form_field.TextField(5, "A"))
            check(TypeError, lambda: form_field.TextField("a"))
            check(ValueError, lambda: form_field.TextField("a", "A", 9))
            check(TypeError, lambda: form_field.ToggleField("a", "A", required="yes"))
            check(TypeError, lambda: form_field.ToggleField("a", "A", placeholder="x"))
            check(TypeError, lambda: Test().failure(5))
            field = form_field.TextField("a", "A", form_field.TextField.password, required=True)
            assert not isinstance(field, form_field.TextField)
            assert (field.name, field.label, field.required, field.text_field) == ("a", "A", True, 1)
            assert (form_field.TextField.plain_text, form_field.TextField.password) == (0, 1)
            assert Test().success().success and not Test.failure("m").success and Test.failure("m").failure == "m"
            """
        )

    def test_files_are_described_and_checked_when_they_are_sent(self):
        self.check(
            """
            import dataclasses
            upload = FileUpload("  a/b.txt ", body)
            assert upload.path == "a/b.txt" and upload.expected_bytes is None
            check(dataclasses.FrozenInstanceError, lambda: setattr(upload, "path", "x"))
            assert isinstance(body, ByteStream) and not isinstance(5, ByteStream)
            assert FileUpload(5, None).path == 5
            """
        )

    def test_a_file_is_refused_and_nothing_of_its_row_is_kept(self):
        run = peer.Run(
            self.sdk,
            CHECKS
            + textwrap.dedent(
                """
                def update(configuration, state):
                    send = lambda *given, **more: op.upsert("t", {"a": 1}, file=FileUpload(*given, **more))
                    for path in (5, "", "  ", "a\\0b", "a/", "a//b", "/a", "..", "a/../b"):
                        check(ValueError, lambda: send(path, body))
                    check(ValueError, lambda: send("a", None))
                    for size in (True, -1, 2**63, 1.0, "1"):
                        check(ValueError, lambda: send("a", body, expected_bytes=size))
                    check(TypeError, lambda: op.upsert("t", {"a": 1}, file="a.txt"))
                    check(TypeError, lambda: op.delete("t", {"a": 1}, file=FileUpload("a", body)))
                    for good in ("a", "a/b..c/d", ".hidden"):
                        check(FilesUnsupported, lambda: send(good, body, expected_bytes=2**63 - 1))
                    check(FilesUnsupported, lambda: op.update("t", {"a": 1}, file=FileUpload("a", body)))
                    assert body.tell() == 0
                    op.upsert("t", {"a": 2}, file=None)
                connector = Connector(update)
                """
            ),
        )
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        self.assertEqual(run.values(), [{"a": 2}])


if __name__ == "__main__":
    unittest.main()
