//! Commands: those that talk to a running server, and those that work while none does.

pub(crate) mod backup;
mod client;
pub(crate) mod prune;
pub(crate) mod query;
mod secured;
pub(crate) mod tenants;
mod text;
pub(crate) mod tool;

/// A part of a path or query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
