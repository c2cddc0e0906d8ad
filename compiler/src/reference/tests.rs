//! Programs against loops written by hand.
