//! Tests of the whole front end.

mod good;
mod reference;
