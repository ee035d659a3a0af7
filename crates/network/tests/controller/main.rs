//! The controller against the real kernel: every test is a host of its own, in a network namespace.
mod containers;
mod restart;
mod verbs;
mod world;
