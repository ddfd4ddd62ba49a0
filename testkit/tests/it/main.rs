//! The rules of the workspace, kept true: which crate may use which, where foreign libraries
//! live, how files look, whose licences we take. Each rule is a plain function from what lies in
//! the repository to a list of complaints; each has a test that it complains when broken.

mod arrows;
mod documents;
mod homes;
mod licences;
mod sources;
mod workspace;

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rule must complain in exactly these words: seen to fail.
#[track_caller]
fn complains(complaints: &[String], expected: &[&str]) {
    assert_eq!(complaints, expected);
}
