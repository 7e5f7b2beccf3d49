"""Runs one connector project for one sync, or asks it for its form or its setup tests. Started by the job with a duplex
socket as stdin:

    python -I -B <sdk folder>/inshore_host.py

Owns the order of a sync on this side (start, import, schema, update, end) and says exactly once how it ended. Rows and
control frames are the native module's; what user code prints goes to stdout and stderr, which the job captures.
"""

import importlib.util
import inspect
import json
import os
import sys
import traceback

SDK_FOLDER = os.path.dirname(os.path.realpath(__file__))
# First, so that a copy of the SDK that a project installed by itself can never stand in for this one.
sys.path.insert(0, SDK_FOLDER)

import fivetran_connector_sdk as sdk  # noqa: E402
import inshore_profile  # noqa: E402
from fivetran_connector_sdk import hosting, limits, local  # noqa: E402
from inshore_encoder import encoder as _inshore  # noqa: E402
from inshore_form import FormError, form_of, results_of  # noqa: E402
from inshore_schema import SchemaError, declared  # noqa: E402

EXIT_FAILED = 1


class ProjectError(Exception):
    """The project cannot be run; `kind` names the failure for the job."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def main():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    start = json.loads(_inshore.attach())
    os.register_at_fork(after_in_child=_inshore.forked)
    # The native module has its own descriptor of the socket; user code finds an empty stdin.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        ending = run(start)
    except BaseException as error:  # every way out of user code becomes one failure
        kind, trace = described(error)
        del error
        _inshore.fail(kind, trace)
        return EXIT_FAILED
    _inshore.finish(ending)
    return 0


def run(start):
    project = start["project"]
    hosting.mode, hosting.debug = start.get("mode", "sync"), start["debug"]
    hosting.takes_files = start.get("files", False)
    prepare_logging(start["debug"])
    os.chdir(project)
    sys.path.append(project)
    profile = inshore_profile.start()
    with profile.phase("import"):
        connector = loaded(project)
    # What the project handed to run() or debug() itself wins, unless it is empty.
    configuration = connector.configuration or start["configuration"]
    state = connector.state or start["state"]
    if hosting.mode == "form":
        return answered({"form": form_of(connector)})
    if hosting.mode == "test":
        return answered({"tests": results_of(connector, configuration, start.get("tests"))})
    return synced(connector, configuration, state, profile)


def prepare_logging(debug):
    log = sdk.Logging
    log._json_lines = True
    if debug:
        log._debug_run = True
        log.LOG_LEVEL = log.Level.__members__.get(os.environ.get(local.LOG_LEVEL_VARIABLE, ""), log.Level.DEBUG)


def answered(answer):
    _inshore.answer(json.dumps(answer))
    return "finished"


def synced(connector, configuration, state, profile):
    with profile.phase("schema"):
        _inshore.declare([] if connector.schema_method is None else declared_tables(connector, configuration))
    profile.begin()
    try:
        exhaust(connector.update_method(configuration=configuration, state=state))
    except SystemExit as ended:
        if ended.code is None or ended.code == 0:
            _inshore.warning("update() left by sys.exit; the sync counts as finished", "exited")
            return "exited"
        raise
    finally:
        profile.end()
    return "finished"


def loaded(project):
    """Imports connector.py as module `connector` and returns its `connector` object."""
    path = os.path.join(project, "connector.py")
    if not os.path.isfile(path):
        raise ProjectError("no_connector", "the project has no connector.py in its top folder")
    spec = importlib.util.spec_from_file_location("connector", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["connector"] = module
    spec.loader.exec_module(module)
    found = getattr(module, "connector", None)
    if not isinstance(found, sdk.Connector):
        raise ProjectError("no_object", "connector.py does not bind a Connector to the name `connector`")
    return found


def declared_tables(connector, configuration):
    return declared(connector.schema_method(configuration), lambda message: _inshore.warning(message, "schema"))


def exhaust(result):
    if inspect.isgenerator(result):
        for _ in result:
            pass
    elif inspect.iscoroutine(result) or inspect.isasyncgen(result):
        _inshore.warning("update() is an async function: nothing of it ran. Make it a plain function", "connector")


def described(error):
    """The failure kind and the text for the host's log. Frames of this file are dropped: they help nobody."""
    kind = kind_of(error)
    if isinstance(error, MemoryError):
        # The frames hold whatever filled the memory.
        traceback.clear_frames(error.__traceback__)
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename == __file__:
        step = step.tb_next
    if isinstance(error, (ProjectError, SchemaError, FormError)):
        step = None
    text = "".join(traceback.format_exception(type(error), error, step))
    return kind, text[-limits.TRACE_CHARACTERS_MAX :]


def kind_of(error):
    if isinstance(error, ProjectError):
        return error.kind
    if isinstance(error, SchemaError):
        return "schema"
    if isinstance(error, FormError):
        return "form"
    if isinstance(error, SyntaxError):
        return "syntax"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, SystemExit):
        return "exit"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return getattr(error, "inshore_kind", "raised")


if __name__ == "__main__":
    sys.exit(main())
