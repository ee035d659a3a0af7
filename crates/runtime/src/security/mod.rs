//! What a container's processes may ask of the kernel.
//!
//! [`profile`] says which system calls, as data; [`filter`] turns that into the program that the kernel runs.
pub mod abi;
pub mod assembler;
pub mod error;
pub mod filter;
pub mod profile;
pub mod syscalls;
