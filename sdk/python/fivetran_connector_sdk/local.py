"""`Connector.debug` and `Connector.run` outside a host: a developer's own process asks `inshore` to run the project.

The run is a child process, so the calling interpreter may make any number of them, and keeps its own packages apart from
the project's. Configuration and state go by files that only their owner reads, and are gone when the run is over.
"""

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile

from fivetran_connector_sdk_common.logger import Logging

from . import hosting

COMMAND = "inshore"
LOG_LEVEL_VARIABLE = "INSHORE_DEBUG_LOG_LEVEL"
SDK_FOLDER = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def debug(connector, project_path, configuration, state, naming, log_level, state_path):
    if hosting.mode is not None:
        if hosting.debug:
            note(connector, configuration, state)
        else:
            Logging.warning("connector.debug() in connector.py is left out: it belongs under `if __name__ == \"__main__\":`")
        return
    project = _project(connector, project_path)
    with contextlib.ExitStack() as files:
        command = [_inshore(), "debug", project]
        if configuration is not None:
            command += ["--configuration", _private_file(files, "configuration.json", _checked(configuration))]
        if state:
            command += ["--state", _private_file(files, "state.json", state)]
        elif state_path is not None:
            command += ["--state", os.fspath(state_path)]
        if naming is not None:
            command += ["--naming", str(naming).upper().removesuffix("_NAMING")]
        status = _run(command, {**os.environ, LOG_LEVEL_VARIABLE: Logging.Level(log_level).name})
    if status:
        sys.exit(status)


def run(connector, *arguments, **keywords):
    local = "destination" in keywords or (arguments and not isinstance(arguments[0], int))
    given = inspect.signature(_local_run if local else _serve).bind(*arguments, **keywords).arguments
    if hosting.mode is not None:
        note(connector, given.get("configuration"), given.get("state"))
        return
    if local:
        raise RuntimeError("connector.run(destination) needs Inshore's agent; on your own machine use `inshore debug`")
    raise RuntimeError("connector.run() serves no port here: use `inshore debug` on your own machine, or deploy to an agent")


def _serve(port=50049, configuration=None, state=None, log_level=Logging.Level.INFO):
    """The first shape of `run`; only its signature is of use."""


def _local_run(
    destination, project_path=None, configuration=None, state=None, naming=None, log_level=Logging.Level.INFO, state_path=None
):
    """The second shape of `run`."""


def note(connector, configuration, state):
    """What the project hands over itself wins over what the host was started with, unless it is empty."""
    connector.configuration, connector.state = configuration, state


def main():
    """The command line of the original package, answered by ours."""
    command = _inshore()
    os.execv(command, [COMMAND, *sys.argv[1:]])


def command_only(command, project):
    return RuntimeError(f"not from Python: run `{COMMAND} {command} {os.fspath(project)}` in a terminal")


def _inshore():
    """The binary that this package came with, else one on the search path."""
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(SDK_FOLDER))), "bin", COMMAND)
    found = beside if os.access(beside, os.X_OK) else shutil.which(COMMAND)
    if found is None:
        raise RuntimeError(f"the command `{COMMAND}` is neither at {beside} nor on PATH; install it to run a connector")
    return found


def _project(connector, given):
    """The folder that was named, else that of the running file or of update(), else the working directory."""
    if given is not None:
        candidates = [os.path.abspath(given)]
    else:
        main_file = getattr(sys.modules.get("__main__"), "__file__", None)
        code = getattr(connector.update_method, "__code__", None)
        files = [main_file, code.co_filename if code else None]
        candidates = [os.path.dirname(os.path.abspath(file)) for file in files if file] + [os.getcwd()]
    for folder in candidates:
        if os.path.isfile(os.path.join(folder, "connector.py")):
            connector.project_path = folder
            return folder
    raise RuntimeError(f"there is no connector.py in {candidates[0]}; name the project: connector.debug(project_path=...)")


def _checked(configuration):
    if not isinstance(configuration, dict):
        raise TypeError(f"configuration must be a dict, not {type(configuration).__name__}")
    for key, value in configuration.items():
        if not isinstance(value, str):
            raise ValueError(f"configuration[{key!r}] is a {type(value).__name__}; every value must be a str")
    return configuration


def _private_file(files, name, content):
    """A file for the child alone; what cannot be JSON never reaches the disk."""
    text = json.dumps(content, allow_nan=False)
    folder = files.enter_context(tempfile.TemporaryDirectory(prefix="inshore-"))
    path = os.path.join(folder, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    return path


def _run(command, environment):
    """Returns the exit status. A notebook shows only what is written through its own streams."""
    sys.stdout.flush()
    sys.stderr.flush()
    own = sys.stderr is sys.__stderr__
    pipe = None if own else subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=pipe, text=not own) as child:
        try:
            for line in child.stderr or ():
                sys.stderr.write(line)
            return _status(child.wait())
        except KeyboardInterrupt:
            # The child has the same signal from the terminal and ends the sync in order.
            child.wait()
            raise


def _status(code):
    return code if code >= 0 else 128 - code
