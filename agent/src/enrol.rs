//! One-time enrolment: a join token becomes a lasting identity.
