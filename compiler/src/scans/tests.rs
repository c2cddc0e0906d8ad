//! Stages against the reference.
