"""The operations a connector emits. Rows go straight to the native builders; only checkpoint has work to do here."""

import json
import threading
import types

from inshore_encoder import encoder as _inshore

from . import limits

_told = set()
_telling = threading.Lock()


def _static(operation):
    """A built-in function binds to no instance; without a wrapper the interpreter finds it faster."""
    return operation if isinstance(operation, types.BuiltinFunctionType) else staticmethod(operation)


class Operations:
    """Static operations; every one returns None and raises in the caller's thread, so user code may catch and go on."""

    upsert = _static(_inshore.upsert)
    update = _static(_inshore.update)
    delete = _static(_inshore.delete)
    truncate = _static(_inshore.truncate)

    @staticmethod
    def checkpoint(state):
        """Returns once everything emitted so far, by all threads, is durable together with `state`."""
        text = _encoded(state)
        size = len(text)  # ASCII by construction, so characters are bytes
        if size > limits.STATE_BYTES_MAX:
            raise _coded(ValueError(f"state is {size} bytes of JSON; the limit is {limits.STATE_BYTES_MAX}"), "state_size")
        if size > limits.STATE_BYTES_WARNING:
            _tell_once("state_size", f"state is {size} bytes of JSON and must stay below {limits.STATE_BYTES_MAX}")
        if not isinstance(state, dict):
            _tell_once("state_shape", "state should be a JSON object")
        _inshore.checkpoint(text)

    @staticmethod
    def error(message, trace=None):
        """Asks for a person: the sync stops at the last checkpoint and waits. It neither raises nor stops user code."""
        _require_text(message)
        if trace is not None and not isinstance(trace, str):
            raise TypeError(f"trace must be a str or None, not {type(trace).__name__}")
        _inshore.error(message, trace)

    @staticmethod
    def warning(message):
        """Shows a sentence to the operator; the sync goes on."""
        _require_text(message)
        _inshore.warning(message, "connector")


def _encoded(state):
    try:
        return json.dumps(state, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as cause:
        raise _coded(TypeError(f"state cannot be stored as JSON: {cause}"), "state_type") from cause


def _coded(error, kind):
    """Marks an error with the failure kind the job reports when user code lets it through."""
    error.inshore_kind = kind
    return error


def _tell_once(topic, message):
    with _telling:
        if topic in _told:
            return
        _told.add(topic)
    _inshore.warning(message, "state")


def _require_text(message):
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {type(message).__name__}")
    if not message.strip():
        raise ValueError("message must not be blank")
