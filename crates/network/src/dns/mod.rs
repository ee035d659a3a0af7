//! Names: the resolver that containers on user networks find at 127.0.0.11.
//!
//! `names.rs` knows who is called what on which network; `resolver.rs` serves it. Each served container has a UDP and a
//! TCP socket of its own, made inside its network namespace (`entrance.rs`), and one task in the daemon (`serve.rs`).
//! What nobody here is called goes on as it came (`forward.rs`).
pub mod entrance;
pub mod forward;
pub mod lookup;
pub mod message;
pub mod names;
pub mod resolv_conf;
pub mod resolver;
pub mod serve;
pub mod upstream;
