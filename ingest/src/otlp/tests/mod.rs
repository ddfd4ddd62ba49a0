//! OTLP: what points become, and what senders are answered.

mod answers;
mod shapes;
mod twin;
mod walks;
