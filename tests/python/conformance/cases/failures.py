"""How a sync ends: exceptions, exits, deaths, `op.error`, `op.warning`; what is kept and which code is told."""

from case import Case, Table

KEYED = "[{'table': 'kept', 'primary_key': ['id']}]"
KEPT = {"kept": Table({"id": "INT"}, [(1,)])}
START = "op.upsert('kept', {'id': 1})\nop.checkpoint({'at': 1})\nop.upsert('kept', {'id': 2})\n"


def ends(name, how, code, *words, **more):
    """Rows before the checkpoint stay, the row after it is dropped, the state is the checkpoint's."""
    return Case(f"ends_{name}", START + how, KEYED, KEPT, more.pop("top", ""), fails=code, words=words, state={"at": 1}, **more)


BOTH = {"kept": Table({"id": "INT"}, [(1,), (2,)])}

CASES = [
    ends("by_an_exception", "raise ValueError('broken here')", "SDK-001", "ValueError", "broken here"),
    ends("by_an_exception_in_a_generator", "yield 1\nraise ValueError('broken there')", "SDK-001", "broken there"),
    ends("by_an_exception_group_of_lines", "def deep():\n    raise KeyError('missing')\ndeep()", "SDK-001", "connector.py", "in deep"),
    ends("by_a_base_exception", "raise Stop()", "SDK-001", top="class Stop(BaseException):\n    pass\n"),
    ends("by_exit_1", "sys.exit(1)", "SDK-002", top="import sys\n"),
    ends("by_exit_text", "sys.exit('no access')", "SDK-002", "no access", top="import sys\n"),
    ends("by_exit_true", "sys.exit(True)", "SDK-002", top="import sys\n"),
    ends("by_keyboard_interrupt", "raise KeyboardInterrupt", "SDK-003"),
    ends("by_os_exit", "os._exit(0)", "SDK-003", top="import os\n"),
    ends("by_os_exit_7", "os._exit(7)", "SDK-003", top="import os\n"),
    ends("by_a_signal", "os.kill(os.getpid(), signal.SIGKILL)", "SDK-003", top="import os, signal\n"),
    ends("by_a_segmentation_fault", "os.kill(os.getpid(), signal.SIGSEGV)", "SDK-003", top="import os, signal\n"),
    ends("by_memory_error", "raise MemoryError()", "SDK-004"),
    ends("by_recursion", "def f():\n    f()\nf()", "SDK-001", "RecursionError"),
    ends("by_error", "op.error('turn the key')\nimport time\ntime.sleep(0.2)", "SDK-012", "turn the key"),
    ends("by_error_and_its_trace", "op.error('turn the key', trace='line 5')", "SDK-012", "line 5"),
    Case("ends_by_exit_0", START + "sys.exit(0)", KEYED, BOTH, "import sys\n", state={"at": 1}, words=("exit",)),
    Case("ends_by_exit_none", START + "sys.exit()", KEYED, BOTH, "import sys\n", state={"at": 1}),
    Case("ends_by_exit_false", START + "sys.exit(False)", KEYED, BOTH, "import sys\n", state={"at": 1}),
    Case("ends_by_quit_in_a_generator", START + "yield 1\nexit()", KEYED, BOTH, state={"at": 1}),
    Case(
        "error_does_not_stop_the_code",
        START + "op.error('stop here')\nlog.info('still running')\ntry:\n    op.upsert('kept', {'id': 3})\n    op.checkpoint({'at': 3})\nexcept RuntimeError:\n    pass",
        KEYED, KEPT, fails="SDK-012", state={"at": 1},
    ),
    Case("error_before_anything", "op.error('never began')", KEYED, {}, fails="SDK-012", state={}),
    Case("warning_does_not_stop", START + "op.warning('look at this')", KEYED, BOTH, state={"at": 1}, words=("look at this",)),
    Case("failure_before_a_checkpoint_keeps_nothing", "op.upsert('kept', {'id': 1})\nraise ValueError('early')", KEYED, {}, fails="SDK-001", state={}),
    Case(
        "failure_is_followed_by_a_sync_that_works",
        "op.upsert('kept', {'id': sync})\nif 'seen' not in state:\n    op.checkpoint({'seen': 1})\nelse:\n    op.checkpoint({'seen': state['seen'] + 1})",
        KEYED, {"kept": Table({"id": "INT"}, [(1,), (2,)])}, state={"seen": 2}, syncs=2,
    ),
    Case(
        "caught_exceptions_are_no_failure",
        "for value in (1, 'x', 2):\n    try:\n        op.upsert('kept', {'id': int(value)})\n    except ValueError:\n        log.warning('skipped one')",
        KEYED, BOTH, words=("skipped one",),
    ),
    Case("fails_without_a_connector_object", source="from fivetran_connector_sdk import Connector\n", fails="PKG-005"),
    Case("fails_with_another_object", source="connector = 5\n", fails="PKG-005"),
    Case("fails_with_a_syntax_error", source="def update(:\n", fails="PKG-004", words=("connector.py",)),
    Case("fails_at_import", source="import no_such_module_anywhere\n", fails="SDK-001", words=("no_such_module_anywhere",)),
    Case("fails_with_exit_at_import", source="import sys\nsys.exit(3)\n", fails="SDK-002"),
    Case(
        "fails_when_a_forked_child_emits",
        """
        import os
        op.upsert("kept", {"id": 1})
        child = os.fork()
        if child == 0:
            try:
                op.upsert("kept", {"id": 2})
            except RuntimeError:
                os._exit(9)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        op.upsert("kept", {"id": 3, "refused": os.waitstatus_to_exitcode(status) == 9})
        """,
        KEYED, {"kept": Table({"id": "INT", "refused": "BOOLEAN"}, [(1, None), (3, True)])}, alone=True,
    ),
]  # fmt: skip
