//! `docs/architecture.md` names every crate, and every line of it that looks like a crate exists.

use crate::workspace::{Crate, crates, read, root};
use crate::{complains, none};

fn complaints(crates: &[Crate], page: &str) -> Vec<String> {
    let unnamed = crates.iter().filter(|one| !page.contains(&format!("**`{}`**", one.name)));
    let mut found: Vec<String> = unnamed
        .map(|one| format!("docs/architecture.md has no paragraph that begins **`{}`**", one.name))
        .collect();
    let told = page
        .lines()
        .filter_map(|line| line.strip_prefix("**`")?.split_once("`**"))
        .map(|(name, _)| name);
    found.extend(
        told.filter(|name| !crates.iter().any(|one| one.name == *name))
            .map(|name| format!("docs/architecture.md tells of {name}, which is no crate")),
    );
    found
}

#[test]
fn the_page_names_every_crate() {
    none(&complaints(&crates(), &read(&root().join("docs/architecture.md"))));
}

#[test]
fn a_crate_without_a_word_is_seen() {
    let one = |name: &str| Crate { name: name.to_owned(), uses: vec![], tests_use: vec![] };
    complains(
        &complaints(
            &[one("model"), one("storage")],
            "**`model`** is first.\n**`gone`** was here.\n`storage`\n",
        ),
        &[
            "docs/architecture.md has no paragraph that begins **`storage`**",
            "docs/architecture.md tells of gone, which is no crate",
        ],
    );
}
