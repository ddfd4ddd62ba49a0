//! The whole process, from outside: the built binary, real peers, real sockets.

mod access;
mod process;
mod prometheus;
