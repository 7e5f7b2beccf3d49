"""Numbers and names that projects look up. What only the original command line used is not here."""

SUPPORTED_PYTHON_VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
DEFAULT_PYTHON_VERSION = "3.13"

JAVA_INT_MIN_VALUE, JAVA_INT_MAX_VALUE = -(2**31), 2**31 - 1
JAVA_LONG_MIN_VALUE, JAVA_LONG_MAX_VALUE = -(2**63), 2**63 - 1

# The column that names an uploaded file; it is the runtime's own.
FIVETRAN_FILE_PATH_COLUMN = "_fivetran_file_path"

FIVETRAN_NAMING_VALUE = "FIVETRAN_NAMING"
SOURCE_NAMING_VALUE = "SOURCE_NAMING"

ROOT_FILENAME = "connector.py"
CONFIGURATION_JSON = "configuration.json"
REQUIREMENTS_TXT = "requirements.txt"
PYPROJECT_TOML = "pyproject.toml"
OUTPUT_FILES_DIR = "files"
MAX_CONFIG_FIELDS = 100
UTF_8 = "utf-8"
