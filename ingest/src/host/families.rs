//! Writing metric families in text format.

use std::fmt::Write;

/// Writes families one after the other. Writing to a string cannot fail, so results are dropped.
pub(super) struct Families<'a> {
    out: &'a mut String,
    name: String,
}

impl<'a> Families<'a> {
    pub(super) fn new(out: &'a mut String) -> Self {
        Self { out, name: String::new() }
    }

    /// Begins a family; its samples follow.
    pub(super) fn open(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the family that is open.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(&self.name);
        for (i, (name, value)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        self.out.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = match value.is_infinite() {
            true => writeln!(self.out, "{}Inf", if value > 0.0 { '+' } else { '-' }),
            false => writeln!(self.out, "{value}"),
        };
    }

    /// A family with one sample without labels.
    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.open(name, kind, help);
        self.sample(&[], value);
    }
}
