//! Names, as containers ask for them: real namespaces, real sockets, a real server behind.
mod answers;
mod forwarding;
mod hostile;
mod programs;
mod speed;
mod world;
