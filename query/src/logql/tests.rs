//! Tests of the whole front end.

mod bad;
mod generated;
mod good;
mod hostile;
mod reference;
