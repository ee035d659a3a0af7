//! One process and all that stands around it: planned in the daemon, launched by the shim, carried out in the child.
pub mod channel;
pub mod confine;
pub mod exec;
pub mod execute;
pub mod gate;
pub mod identity;
pub mod init;
pub mod introduce;
pub mod join;
pub mod launch;
pub mod plan;
pub mod task;
