//! Golden files: what users see, kept in the repository and compared byte for byte.
//! `UPDATE_GOLDEN=1 cargo t CRATE` rewrites them; the change is then reviewed like code.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Largest table of the longest-common-subsequence search, in cells; beyond it the differing
/// middle is shown whole.
const DIFF_CELLS_MAX: usize = 4_000_000;

/// Compares with the golden file at `path`, relative to the crate under test.
///
/// # Panics
/// If they differ or the file is missing, with the differing lines.
#[track_caller]
pub fn check(path: impl AsRef<Path>, actual: &str) {
    let path = in_crate(path.as_ref());
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let dir = path.parent().expect("a golden file lies in a directory");
        std::fs::create_dir_all(dir).expect("make the directory of golden files");
        std::fs::write(&path, actual).expect("write the golden file");
        return;
    }
    let shown = path.display();
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("read golden file {shown}: {e}; UPDATE_GOLDEN=1 writes it"));
    if let Some(diff) = difference(&golden, actual) {
        panic!("{shown} differs (- golden, + actual; UPDATE_GOLDEN=1 accepts):\n{diff}");
    }
}

/// Cargo runs tests with the package's directory in this variable.
fn in_crate(path: &Path) -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default().join(path)
}

/// The lines that differ with three lines around them; `None` if nothing does.
pub fn difference(before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let shortest = old.len().min(new.len()) - start;
    let same_end =
        old.iter().rev().zip(new.iter().rev()).take(shortest).take_while(|(a, b)| a == b).count();
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    let mut shown = String::new();
    for line in &old[start.saturating_sub(3)..start] {
        put(&mut shown, ' ', line);
    }
    middle(&mut shown, &old[start..old_end], &new[start..new_end]);
    for line in &old[old_end..old.len().min(old_end + 3)] {
        put(&mut shown, ' ', line);
    }
    Some(shown)
}

fn put(shown: &mut String, sign: char, line: &str) {
    let end = if line.ends_with('\n') { "" } else { "⏎ (no newline at the end)\n" };
    write!(shown, "{sign}{line}{end}").expect("writing to a string cannot fail");
}

/// Lines of a stretch that begins and ends with a difference.
fn middle(shown: &mut String, old: &[&str], new: &[&str]) {
    if old.len().saturating_mul(new.len()) > DIFF_CELLS_MAX {
        old.iter().for_each(|line| put(shown, '-', line));
        new.iter().for_each(|line| put(shown, '+', line));
        return;
    }
    // common[i][j]: length of the longest common subsequence of old[i..] and new[j..].
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            put(shown, ' ', old[i]);
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            put(shown, '-', old[i]);
            i += 1;
        } else {
            put(shown, '+', new[j]);
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(before: &str, after: &str, shown: Option<&str>) {
        assert_eq!(difference(before, after).as_deref(), shown);
    }

    #[test]
    fn differences_are_readable() {
        shows("a\nb\n", "a\nb\n", None);
        shows("a\nb\nc\n", "a\nx\nc\n", Some(" a\n-b\n+x\n c\n"));
        shows("a\n", "a\nb\n", Some(" a\n+b\n"));
        shows("a\na\n", "a\n", Some(" a\n-a\n"));
        shows("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\nx\n6\n", Some(" 2\n 3\n 4\n-5\n+x\n 6\n"));
        shows("a\nb\nc\nd\n", "b\nX\nd\ne\n", Some("-a\n b\n-c\n+X\n d\n+e\n"));
        shows("a\n", "a", Some("-a\n+a⏎ (no newline at the end)\n"));
        shows("", "a\n", Some("+a\n"));
    }

    #[test]
    #[should_panic(expected = "UPDATE_GOLDEN=1 writes it")]
    fn a_missing_file_fails() {
        check("tests/golden/there_is_no_such_file", "x");
    }
}
