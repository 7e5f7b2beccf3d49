"""Names of the original package that this one leaves out on purpose. Importing one says so, instead of leaving a reader
with a missing module.
"""

import sys

PACKAGE = "fivetran_connector_sdk"
ABSENT = frozenset(
    "operation_stream schema_processing type_coercion protos cli plugin fivetran_shim "
    "common_pb2 common_pb2_grpc connector_sdk_pb2 connector_sdk_pb2_grpc".split()
)


class _Finder:
    """The last on `sys.meta_path`: asked only when nobody else has the module."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, module = name.rpartition(".")
        if package == PACKAGE and module in ABSENT:
            message = f"{name} is internal to the original SDK and not part of Inshore's runtime; use {PACKAGE} itself"
            raise ImportError(message, name=name)
        return None


def install():
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
