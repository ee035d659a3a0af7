//! What the container sees as its files. Everything here but `view` runs in the child, in its own mount namespace.
pub mod cgroups;
pub mod devices;
pub mod mask;
pub mod mounts;
pub mod options;
pub mod overlay;
pub mod owners;
pub mod pivot;
pub mod private;
pub mod stranger;
pub mod traces;
pub mod view;
