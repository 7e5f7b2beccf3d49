"""The fields of a configuration form. `TextField(...)` and its neighbours are factories: each returns a FormField, which
has one of `text_field`, `descriptive_dropdown_fields`, `toggle_field`.
"""

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class DropdownFieldParam:
    """One option: what the connector gets, and how a person sees it."""

    value: object
    label: typing.Optional[str] = None
    description: typing.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class FormField:
    """One field of a form, as tools read it."""

    name: str
    label: str
    required: bool = False
    description: typing.Optional[str] = None
    placeholder: typing.Optional[str] = None
    text_field: typing.Optional[int] = None
    descriptive_dropdown_fields: typing.Optional[tuple] = None
    toggle_field: bool = False


class TextField:
    """One line of text; a `password` is stored sealed and never shown again."""

    plain_text = 0
    password = 1

    def __new__(cls, name, label, field_type=plain_text, *, description=None, required=False, placeholder=None):
        if type(field_type) is not int or field_type not in (cls.plain_text, cls.password):
            raise ValueError(f"field_type of {name!r} must be TextField.plain_text or TextField.password")
        return _field(name, label, description, required, placeholder, text_field=field_type)


class DropdownField:
    """A choice of one among `fields`; the connector gets the value as text."""

    def __new__(cls, name, label, *, fields, description=None, required=False, placeholder=None):
        options = tuple(_option(name, option) for option in fields)
        if not options:
            raise ValueError(f"the dropdown {name!r} needs at least one entry in 'fields'")
        return _field(name, label, description, required, placeholder, descriptive_dropdown_fields=options)


class ToggleField:
    """A switch; the connector gets "true" or "false"."""

    def __new__(cls, name, label, *, description=None, required=False):
        return _field(name, label, description, required, None, toggle_field=True)


def _option(name, option):
    if not isinstance(option, DropdownFieldParam):
        raise TypeError(f"'fields' of {name!r} must hold DropdownFieldParam, not {type(option).__name__}")
    value = str(option.value)
    return DropdownFieldParam(value, value if option.label is None else option.label, option.description)


def _field(name, label, description, required, placeholder, **kind):
    for what, text in (("name", name), ("label", label)):
        if not isinstance(text, str):
            raise TypeError(f"the {what} of a form field must be a str, not {type(text).__name__}")
    for what, text in (("description", description), ("placeholder", placeholder)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"the {what} of {name!r} must be a str or None, not {type(text).__name__}")
    if not isinstance(required, (bool, int)):
        raise TypeError(f"'required' of {name!r} must be a bool, not {type(required).__name__}")
    return FormField(name, label, bool(required), description, placeholder, **kind)
