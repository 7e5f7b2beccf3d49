"""Looks a project over without a sync. Reads one JSON object from stdin, {"project": folder, "load": bool,
"configuration": {name: text}}, and writes one JSON object per finding to stdout:

    {"level": "error" | "warning", "file": name, "line": number or null, "message": text, "code": page or null}

Without `load` it reads the source only. With it, connector.py is imported and schema() called, with every way to the
network closed.
"""

import ast
import json
import os
import sys
import tokenize
import traceback

EXCLUDED = {"__pycache__", "lib", "include", "files", "crash-reports", "node_modules"}
EXITS = {"exit", "quit", "sys.exit", "os._exit", "os.abort"}


# User code prints to stdout too: the findings have a descriptor of their own.
FINDINGS = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)


def tell(level, file, line, message, code=None):
    print(json.dumps({"level": level, "file": file, "line": line, "message": message, "code": code}), file=FINDINGS)


def sources(project):
    """The project's own Python files, relative to it; connector.py first."""
    found = []
    for folder, folders, files in os.walk(project):
        own = lambda name: (  # noqa: E731
            name not in EXCLUDED
            and not name.startswith(".")
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        folders[:] = sorted(filter(own, folders))
        found += [os.path.relpath(os.path.join(folder, name), project) for name in sorted(files) if name.endswith(".py")]
    return sorted(found, key=lambda name: name != "connector.py")


def parsed(project, name):
    """The tree of a file; None, and a finding, when it is not Python."""
    try:
        with tokenize.open(os.path.join(project, name)) as file:
            return ast.parse(file.read(), name)
    except (SyntaxError, ValueError) as error:
        tell("error", name, getattr(error, "lineno", None), f"not valid Python: {getattr(error, 'msg', error)}", "PKG-004")
    except OSError as error:
        tell("error", name, None, f"cannot be read: {error.strerror}", "PKG-010")
    return None


def called(node, imported):
    """The name of what a call calls, with names of `from … import` undone."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{imported.get(node.value.id, node.value.id)}.{node.attr}"
    return None


def imports(tree):
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def find_exits(name, tree):
    """Calls that end the process; `if __name__ == "__main__"` never runs here."""
    imported = imports(tree)
    main = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "__name__" in ast.dump(node.test)]
    skipped = {id(inner) for block in main for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in skipped and (call := called(node.func, imported)) in EXITS:
            tell("warning", name, node.lineno, f"{call}() ends the sync where it stands: raise an exception instead")


def binds_connector(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "connector" and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
            (alias.asname or alias.name) in ("connector", "*") for alias in node.names
        ):
            return True
    return False


def scan(project):
    """Whether the source alone shows no error."""
    fine = True
    for name in sources(project):
        tree = parsed(project, name)
        if tree is None:
            fine = False
            continue
        find_exits(name, tree)
        if name == "connector.py" and not binds_connector(tree):
            tell("error", name, None, "binds no Connector to the name `connector`", "PKG-005")
            fine = False
    return fine


def close_network():
    import socket

    def refused(*arguments, **named):
        raise OSError("validate has no network: schema() must not need one")

    socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refused
    socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refused


def place(error, project):
    """The deepest line of the project's own code."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename.startswith(project + os.sep)]
    return (os.path.relpath(steps[-1].filename, project), steps[-1].lineno) if steps else ("connector.py", None)


def load(project, configuration):
    """Imports the connector and calls schema() as a sync does."""
    folder = os.path.dirname(os.path.realpath(__file__))
    sys.path.insert(0, folder)
    import inshore_host
    from fivetran_connector_sdk import hosting

    # connector.debug() at the end of connector.py starts nothing here.
    hosting.mode, hosting.debug = "form", True
    close_network()
    os.chdir(project)
    sys.path.append(project)
    try:
        connector = inshore_host.loaded(project)
        if connector.schema_method is not None:
            warned = lambda message: tell("warning", "connector.py", None, message)  # noqa: E731
            inshore_host.declared(connector.schema_method(configuration), warned)
    except BaseException as error:  # every way out of user code is a finding
        kind = inshore_host.kind_of(error)
        code = {"no_object": "PKG-005", "schema": "SDK-013", "syntax": "PKG-004"}.get(kind, "SDK-001")
        file, line = place(error, project)
        tell("error", file, line, " ".join(f"{type(error).__name__}: {error}".split())[:400], code)


def main():
    request = json.load(sys.stdin)
    os.dup2(2, 1)
    project = os.path.realpath(request["project"])
    fine = scan(project)
    if request["load"] and fine:
        load(project, request["configuration"])


if __name__ == "__main__":
    main()
