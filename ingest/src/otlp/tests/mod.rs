//! OTLP: what points become, and what senders are answered.

mod answers;
mod twin;
mod walks;
