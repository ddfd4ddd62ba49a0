//! The whole process, from outside: the built binary, real peers, real sockets.

#![expect(clippy::print_stdout, reason = "tests say what they measured and what they skipped")]

mod access;
mod admin;
mod backup;
mod beside;
mod bombs;
mod checklist;
mod clients;
mod differential;
mod forward;
mod golden;
mod kill;
mod limits;
mod log_deletes;
mod logs;
mod otel;
mod process;
mod prometheus;
mod pushgateway;
mod queries;
mod rare;
mod reader;
mod reload;
mod remote_read;
mod routing;
mod scraping;
mod senders;
mod sql;
mod starts;
mod switches;
mod tails;
mod tls;
mod tool;
