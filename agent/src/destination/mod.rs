//! The configured end of a connection: write, commit, apply.
