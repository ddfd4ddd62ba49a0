//! Tests of the whole front end.

mod bad;
mod differential;
mod generated;
mod generator;
mod good;
mod hostile;
mod reference;
