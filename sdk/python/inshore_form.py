"""What a connector says about its configuration: the form as JSON, and the outcome of its setup tests."""

import traceback

from fivetran_connector_sdk.configuration_form import ConfigurationForm
from fivetran_connector_sdk.form_field import TextField
from fivetran_connector_sdk.limits import TRACE_CHARACTERS_MAX
from fivetran_connector_sdk.test import TestResult


class FormError(Exception):
    """configuration_form() or the choice of tests is wrong; the message says what to change."""


def form_of(connector):
    """The form as {"fields": [...], "tests": [{"name", "label"}]}; None when the connector has none."""
    form = _form(connector)
    if form is None:
        return None
    tests = [{"name": name, "label": label} for name, (label, _) in form._tests.items()]
    return {"fields": [_field(field) for field in form._fields], "tests": tests}


def results_of(connector, configuration, wanted):
    """Runs the named tests, or all, in their order. A test that raises does not keep the next one from running."""
    form = _form(connector)
    tests = {} if form is None else form._tests
    absent = [name for name in wanted or () if name not in tests]
    if absent:
        raise FormError(f"there is no test {absent[0]!r}; the form has: {', '.join(tests) or 'none'}")
    chosen = tests if wanted is None else wanted
    return [_result(name, *tests[name], configuration) for name in chosen]


def _form(connector):
    if connector.configuration_form_method is None:
        return None
    form = connector.configuration_form_method()
    if not isinstance(form, ConfigurationForm):
        raise FormError(f"configuration_form() must return a ConfigurationForm, not {type(form).__name__}")
    return form


def _field(field):
    common = {"name": field.name, "label": field.label, "required": field.required}
    optional = {"description": field.description, "placeholder": field.placeholder}
    common.update((name, text) for name, text in optional.items() if text is not None)
    if field.descriptive_dropdown_fields is not None:
        options = [
            {"value": option.value, "label": option.label, "description": option.description}
            for option in field.descriptive_dropdown_fields
        ]
        return {**common, "type": "dropdown", "options": options}
    if field.toggle_field:
        return {**common, "type": "toggle"}
    return {**common, "type": "password" if field.text_field == TextField.password else "text"}


def _result(name, label, func, configuration):
    """One of: passed; failed with the connector's own message; raised with a traceback."""
    result = {"name": name, "label": label}
    try:
        returned = func(configuration)
    except (Exception, SystemExit) as error:
        # The first frame is this function's own.
        step = error.__traceback__.tb_next or error.__traceback__
        text = "".join(traceback.format_exception(type(error), error, step))
        return {**result, "outcome": "raised", "message": text[-TRACE_CHARACTERS_MAX:]}
    if not isinstance(returned, TestResult):
        message = f"it returned {type(returned).__name__}; a test returns Test().success() or Test().failure(message)"
        return {**result, "outcome": "failed", "message": message}
    if returned.success:
        return {**result, "outcome": "passed"}
    return {**result, "outcome": "failed", "message": returned.failure}
