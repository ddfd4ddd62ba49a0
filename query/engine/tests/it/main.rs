//! The engine against scripts of expressions and answers, and against itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its own data should stop")]

mod compare;
mod exec;
mod kept;
mod literals;
mod look_ups;
mod nhcb;
mod pinned;
mod placement;
mod properties;
mod reference;
mod run;
mod script;
mod scripts;
mod sql;
