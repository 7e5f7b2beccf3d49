"""The form that a connector describes for its configuration, with the tests behind it."""

from .form_field import FormField


class ConfigurationForm:
    """Fields and tests in the order in which they were added; both methods return the form, so calls chain."""

    def __init__(self):
        self._fields = []
        self._tests = {}

    def add_field(self, field):
        if not isinstance(field, FormField):
            raise TypeError(f"add_field takes what form_field.TextField and its neighbours return, not {type(field).__name__}")
        self._fields.append(field)
        return self

    def add_test(self, *, label, func):
        """`func` takes the configuration and returns Test().success() or Test().failure(why). Its name identifies it."""
        if not callable(func):
            raise TypeError(f"func must be callable, not {type(func).__name__}")
        if not isinstance(label, str):
            raise TypeError(f"label must be a str, not {type(label).__name__}")
        name = getattr(func, "__name__", type(func).__name__)
        if not label:
            raise ValueError(f"the test {name!r} needs a label")
        if name == "<lambda>":
            raise ValueError("a test must be a named function: a lambda has no name to call it by")
        if name in self._tests:
            raise ValueError(f"two tests are named {name!r}; rename one of the functions")
        self._tests[name] = (label, func)
        return self
