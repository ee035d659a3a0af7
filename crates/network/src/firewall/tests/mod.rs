//! Traffic of real kernels: a host, another host, and containers, each a network namespace.
mod hairpin;
mod offload;
mod published;
mod ruleset;
mod strangers;
mod world;
