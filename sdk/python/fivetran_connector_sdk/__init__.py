"""The import surface that connector projects are written against.

Pure Python over the native module `_inshore`, which turns rows into Arrow and owns the link to the job. This package
has no other dependency, so it can never collide with what a connector installs.
"""

from fivetran_connector_sdk_common import __version__, constants as common_constants
from fivetran_connector_sdk_common.helpers import PromptMode, print_library_log
from fivetran_connector_sdk_common.logger import Logging

from . import absent, constants, form_field, local
from .configuration_form import ConfigurationForm
from .file_upload import ByteStream, FileUpload
from .local import main
from .operations import Operations
from .test import Test

# `Connector` is deliberately absent: existing projects import it by name, and a star import never provided it.
__all__ = ["ByteStream", "FileUpload", "Logging", "Operations", "ConfigurationForm", "Test", "form_field"]

absent.install()


class Connector:
    """What a project binds to the name `connector` in connector.py. Nothing is checked until a sync runs it."""

    def __init__(self, update, schema=None, configuration_form=None):
        self.update_method = update
        self.schema_method = schema
        self.configuration_form_method = configuration_form
        self.configuration = None
        self.state = None
        self.project_path = None

    def run(self, *arguments, **keywords):
        """`run(port=50049, configuration=None, state=None, log_level=INFO)`, as the platform calls it, or
        `run(destination, project_path=None, configuration=None, state=None, naming=None, log_level=INFO, state_path=None)`.

        Under a host both note configuration and state for the sync that the host runs. Elsewhere there is no sync to
        attach to, and both say which command makes one.
        """
        local.run(self, *arguments, **keywords)

    def debug(
        self, project_path=None, configuration=None, state=None, naming=None, log_level=Logging.Level.DEBUG, state_path=None
    ):
        """Runs the project once by `inshore debug`, in processes of its own; a failed run ends in SystemExit."""
        local.debug(self, project_path, configuration, state, naming, log_level, state_path)

    def deploy(
        self, project_path, deploy_key=None, group=None, connection=None, hd_agent_id=None, configuration=None,
        config_path=None, python_version=None, prompt_mode=PromptMode.INTERACTIVE, naming=None, proxy_id=None,
        proxy_host_config_key=None, target_package_id=None,
    ):  # fmt: skip
        raise local.command_only("deploy", project_path)

    def generate_configuration(
        self, project_path, run_tests=False, disable_encryption=False, prompt_mode=PromptMode.INTERACTIVE
    ):
        raise local.command_only("configuration", project_path)
