//! The one list of failure codes of the product: code, class, blame, slug. Append-only; each code has a page in
//! `docs/errors`. What happened in words stays on the host; class, blame and code are all that goes up.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A failed attempt, as the control plane sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: Class,
    pub blame: Blame,
    pub code: Code,
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self { class: code.class(), blame: code.blame(), code }
    }
}

/// What helps: waiting, a person, or a fix of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Retry,
    Fix,
    Bug,
    #[serde(other)]
    Unknown,
}

/// Whose side the failure is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    Source,
    Destination,
    Tunnel,
    Agent,
    ControlPlane,
    #[serde(other)]
    Unknown,
}

macro_rules! codes {
    ($($name:ident, $text:literal, $class:ident, $blame:ident, $slug:literal;)*) => {
        /// A failure code. Decoding a code of a newer version gives `Unknown`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $text, "` ", $slug)] $name,)*
            /// A code this build does not know.
            Unknown,
        }

        impl Code {
            /// Every known code, in the order of the table.
            #[must_use]
            pub const fn all() -> &'static [Code] {
                &[$(Code::$name),*]
            }

            /// `SDK-001`
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* Code::Unknown => "UNKNOWN" }
            }

            /// What helps.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Code::$name => Class::$class,)* Code::Unknown => Class::Unknown }
            }

            /// Whose side.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Code::$name => Blame::$blame,)* Code::Unknown => Blame::Unknown }
            }

            /// `UPDATE_RAISED`
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Code::$name => $slug,)* Code::Unknown => "UNKNOWN" }
            }

            /// The code of this text, if this build knows it.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Code> {
                match text { $($text => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    ConfigMissing, "CFG-001", Fix, Agent, "CONFIG_MISSING";
    ConfigMalformed, "CFG-002", Fix, Agent, "CONFIG_MALFORMED";
    ConfigUnknownKey, "CFG-003", Fix, Agent, "CONFIG_UNKNOWN_KEY";
    PolicyMissing, "CFG-004", Fix, Agent, "POLICY_MISSING";
    PolicyMalformed, "CFG-005", Fix, Agent, "POLICY_MALFORMED";
    PolicyUnknownKey, "CFG-006", Fix, Agent, "POLICY_UNKNOWN_KEY";
    SecretUnresolved, "CFG-007", Fix, Agent, "SECRET_UNRESOLVED";

    TokenUnreadable, "ENR-001", Fix, Agent, "TOKEN_UNREADABLE";
    TokenMalformed, "ENR-002", Fix, Agent, "TOKEN_MALFORMED";
    TokenExpired, "ENR-003", Fix, Agent, "TOKEN_EXPIRED";
    TokenUsed, "ENR-004", Fix, Agent, "TOKEN_USED";
    RootWrong, "ENR-005", Fix, ControlPlane, "ROOT_WRONG";
    NotEnrolled, "ENR-006", Fix, Agent, "NOT_ENROLLED";
    IdentityUnreadable, "ENR-007", Fix, Agent, "IDENTITY_UNREADABLE";
    AlreadyEnrolled, "ENR-008", Fix, Agent, "ALREADY_ENROLLED";

    ControlPlaneUnreachable, "CHN-001", Retry, ControlPlane, "CONTROL_PLANE_UNREACHABLE";
    TlsCertificateRefused, "CHN-002", Fix, ControlPlane, "TLS_CERTIFICATE_REFUSED";
    ChannelKeyMismatch, "CHN-003", Fix, ControlPlane, "CHANNEL_KEY_MISMATCH";
    IdentityRefused, "CHN-004", Fix, Agent, "IDENTITY_REFUSED";
    ProtocolVersion, "CHN-005", Fix, Agent, "PROTOCOL_VERSION";
    BadFrame, "CHN-006", Retry, ControlPlane, "BAD_FRAME";

    DestinationNotListed, "POL-001", Fix, Agent, "DESTINATION_NOT_LISTED";
    ConnectorNotListed, "POL-002", Fix, Agent, "CONNECTOR_NOT_LISTED";
    UnsandboxedRefused, "POL-003", Fix, Agent, "UNSANDBOXED_REFUSED";
    ModeRefused, "POL-004", Fix, Agent, "MODE_REFUSED";
    VariableNotListed, "POL-005", Fix, Agent, "VARIABLE_NOT_LISTED";
    HashSaltUnavailable, "POL-006", Fix, Agent, "HASH_SALT_UNAVAILABLE";

    PackageNotZip, "PKG-001", Fix, Source, "PACKAGE_NOT_ZIP";
    PackageEscapingEntry, "PKG-002", Fix, Source, "PACKAGE_ESCAPING_ENTRY";
    PackageWithoutConnector, "PKG-003", Fix, Source, "PACKAGE_WITHOUT_CONNECTOR";
    ConnectorSyntaxError, "PKG-004", Fix, Source, "CONNECTOR_SYNTAX_ERROR";
    ConnectorObjectMissing, "PKG-005", Fix, Source, "CONNECTOR_OBJECT_MISSING";
    RequirementUnresolved, "PKG-006", Fix, Source, "REQUIREMENT_UNRESOLVED";
    PackageDigestMismatch, "PKG-007", Retry, ControlPlane, "PACKAGE_DIGEST_MISMATCH";
    PackageTooLarge, "PKG-008", Fix, Source, "PACKAGE_TOO_LARGE";
    PythonAbsent, "PKG-009", Fix, Agent, "PYTHON_ABSENT";
    ProjectUnreadable, "PKG-010", Fix, Source, "PROJECT_UNREADABLE";
    ProjectFileMalformed, "PKG-011", Fix, Source, "PROJECT_FILE_MALFORMED";
    DriversNeedImage, "PKG-012", Fix, Source, "DRIVERS_NEED_IMAGE";
    RequirementRefused, "PKG-013", Fix, Source, "REQUIREMENT_REFUSED";
    PackageHoldsPrivateFiles, "PKG-014", Fix, Source, "PACKAGE_HOLDS_PRIVATE_FILES";

    UpdateRaised, "SDK-001", Fix, Source, "UPDATE_RAISED";
    ExitNonZero, "SDK-002", Fix, Source, "EXIT_NON_ZERO";
    ProcessDied, "SDK-003", Retry, Source, "PROCESS_DIED";
    OutOfMemory, "SDK-004", Fix, Source, "OUT_OF_MEMORY";
    StateNotSerialisable, "SDK-005", Fix, Source, "STATE_NOT_SERIALISABLE";
    StateTooLarge, "SDK-006", Fix, Source, "STATE_TOO_LARGE";
    PrimaryKeyNull, "SDK-007", Fix, Source, "PRIMARY_KEY_NULL";
    ValueDoesNotFit, "SDK-008", Fix, Source, "VALUE_DOES_NOT_FIT";
    ColumnNamesCollide, "SDK-009", Fix, Source, "COLUMN_NAMES_COLLIDE";
    PrimaryKeyChanged, "SDK-010", Fix, Source, "PRIMARY_KEY_CHANGED";
    PrimaryKeyRequired, "SDK-011", Fix, Source, "PRIMARY_KEY_REQUIRED";
    ActionRequired, "SDK-012", Fix, Source, "ACTION_REQUIRED";
    SchemaWrong, "SDK-013", Fix, Source, "SCHEMA_WRONG";
    PartialKey, "SDK-014", Fix, Source, "PARTIAL_KEY";
    FrameViolated, "SDK-015", Bug, Agent, "FRAME_VIOLATED";
    ConnectorWarning, "SDK-016", Fix, Source, "CONNECTOR_WARNING";
    ExitedEarly, "SDK-017", Fix, Source, "EXITED_EARLY";
    FilesUnsupported, "SDK-018", Fix, Source, "FILES_UNSUPPORTED";
    FormWrong, "SDK-019", Fix, Source, "FORM_WRONG";
    SetupTestFailed, "SDK-020", Fix, Source, "SETUP_TEST_FAILED";
    FileTooLarge, "SDK-021", Fix, Source, "FILE_TOO_LARGE";
    FileRefused, "SDK-022", Fix, Source, "FILE_REFUSED";
    TooManyNames, "SDK-023", Fix, Source, "TOO_MANY_TABLES";

    DestinationPermission, "DST-001", Fix, Destination, "DESTINATION_PERMISSION";
    DestinationFull, "DST-002", Retry, Destination, "DESTINATION_FULL";
    DestinationUnreachable, "DST-003", Retry, Destination, "DESTINATION_UNREACHABLE";
    ChainEntryAltered, "DST-004", Fix, Destination, "CHAIN_ENTRY_ALTERED";
    MarkerAboveHead, "DST-005", Fix, Destination, "MARKER_ABOVE_HEAD";
    StagedFileMissing, "DST-006", Fix, Destination, "STAGED_FILE_MISSING";
    ProbeFailed, "DST-007", Fix, Destination, "PROBE_FAILED";
    TableOwned, "DST-008", Fix, Destination, "TABLE_OWNED";
    Fenced, "DST-009", Retry, Destination, "FENCED";
    GenerationJump, "DST-010", Bug, ControlPlane, "GENERATION_JUMP";
    LogTableUnavailable, "DST-011", Fix, Destination, "LOG_TABLE_UNAVAILABLE";
    StoreCredentials, "DST-012", Fix, Destination, "STORE_CREDENTIALS";
    StoreMissing, "DST-013", Fix, Destination, "STORE_MISSING";
    ClockSkew, "DST-014", Fix, Agent, "CLOCK_SKEW";
    StoreUntrusted, "DST-015", Fix, Destination, "STORE_UNTRUSTED";

    SpoolFull, "AGT-001", Retry, Agent, "SPOOL_FULL";
    StoreBroken, "AGT-002", Fix, Agent, "STORE_BROKEN";
    Internal, "AGT-003", Bug, Agent, "INTERNAL";
    SecretUnopenable, "AGT-004", Fix, Agent, "SECRET_UNOPENABLE";
    JobDied, "AGT-005", Retry, Agent, "JOB_DIED";

    SecretNotSealed, "CPL-001", Fix, ControlPlane, "SECRET_NOT_SEALED";
    NoEligibleAgent, "CPL-002", Retry, ControlPlane, "NO_ELIGIBLE_AGENT";
    LeaseLost, "CPL-003", Retry, ControlPlane, "LEASE_LOST";
    KeyColumnBlocked, "CPL-004", Fix, ControlPlane, "KEY_COLUMN_BLOCKED";
    SchemaConfigForeign, "CPL-005", Fix, ControlPlane, "SCHEMA_CONFIG_FOREIGN";

    FolderOccupied, "DEV-001", Fix, Source, "FOLDER_OCCUPIED";
    NothingToShow, "DEV-002", Fix, Source, "NOTHING_TO_SHOW";
    QueryFailed, "DEV-003", Fix, Source, "QUERY_FAILED";
    ToolUnavailable, "DEV-004", Fix, Agent, "TOOL_UNAVAILABLE";
    ConfigurationSealed, "DEV-005", Fix, Source, "CONFIGURATION_SEALED";
    DriversWithoutInstaller, "DEV-006", Fix, Source, "DRIVERS_WITHOUT_INSTALLER";
    ControlPlaneNotFound, "DEV-007", Fix, ControlPlane, "CONTROL_PLANE_NOT_FOUND";
    ApiKeyRefused, "DEV-008", Fix, ControlPlane, "API_KEY_REFUSED";
    DeployRefused, "DEV-009", Fix, ControlPlane, "DEPLOY_REFUSED";
    SetupTestsFailed, "DEV-010", Fix, Source, "SETUP_TESTS_FAILED";
    ProjectBusy, "DEV-011", Fix, Source, "PROJECT_BUSY";
    NoSuchCommit, "DEV-012", Fix, Source, "NO_SUCH_COMMIT";
    TablesDiffer, "DEV-013", Fix, Source, "TABLES_DIFFER";
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::from_text(&text).unwrap_or(Self::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_and_slugs_are_unique_and_round_trip() {
        let texts: BTreeSet<_> = Code::all().iter().map(|code| code.text()).collect();
        let slugs: BTreeSet<_> = Code::all().iter().map(|code| code.slug()).collect();
        assert_eq!((texts.len(), slugs.len()), (Code::all().len(), Code::all().len()));
        for code in Code::all() {
            assert_eq!(Code::from_text(code.text()), Some(*code));
            let (area, number) = code.text().split_once('-').expect("area and number");
            assert!(area.len() == 3 && number.len() == 3, "{code}");
        }
    }

    #[test]
    fn a_code_of_a_newer_version_is_unknown_not_an_error() {
        let failure: Failure =
            serde_json::from_str(r#"{"class":"later","blame":"moon","code":"XYZ-999"}"#).expect("lenient");
        assert_eq!(failure, Failure { class: Class::Unknown, blame: Blame::Unknown, code: Code::Unknown });
    }
}
