//! The whole process, from outside: the built binary, real peers, real sockets.

mod access;
mod kill;
mod process;
mod prometheus;
