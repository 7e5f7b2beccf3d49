//! The lasting link to the control plane: session, outbox, inbox, ledger.
