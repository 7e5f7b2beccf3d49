//! The identity of this agent and its files in the state directory.
