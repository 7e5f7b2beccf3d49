"""What a setup test returns."""

import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class TestResult:
    success: bool
    failure: typing.Optional[str] = None
    # Test runners of Python collect classes by this prefix; this is none.
    __test__ = False


class Test:
    """`return Test().success()` or `return Test().failure("why")`; anything else counts as a failure."""

    __test__ = False

    @staticmethod
    def success():
        return TestResult(True)

    @staticmethod
    def failure(message):
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}")
        return TestResult(False, message)
