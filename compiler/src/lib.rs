//! MEANING -> KERNEL CODE. Pure: no files, no clock, no environment; the same program gives the same code. Runs nothing.

pub mod kernel;
