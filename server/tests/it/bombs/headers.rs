//! Bombs around the body: header lines, names of tenants, paths.

use super::{Bomb, Framing, Range};

/// Any answer that blames the request, or an empty one.
const EXPECTED: &[u16] = &[200, 204, 400, 401, 403, 404, 405, 414, 431];

#[test]
fn headers_and_paths() {
    let range = Range::open();
    let get = |name: &str, path: &str, headers: &[u8]| Bomb {
        name: name.to_owned(),
        method: "GET",
        path: path.to_owned(),
        headers: headers.to_vec(),
        body: Vec::new(),
        framing: Framing::Length,
        expected: EXPECTED,
        stored_bytes: 0,
    };
    let line = |name: &str, value: &[u8]| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    let mut bombs = vec![
        get("a header of 1 MB", "/api/v1/labels", &line("X-Large", &vec![b'a'; 1 << 20])),
        get("100,000 headers", "/api/v1/labels", &b"a: b\r\n".repeat(100_000)),
        get(
            "a credential of 300 KB",
            "/api/v1/labels",
            &line("Authorization", &vec![b'B'; 300_000]),
        ),
        get("a path of 1 MB", &format!("/{}", "a".repeat(1 << 20)), b""),
        get("a path of 60 KB", &format!("/api/v1/label/{}/values", "a".repeat(60_000)), b""),
        get("a label that is not UTF-8", "/api/v1/label/%ff%fe/values", b""),
        get("an escaped label without end", "/api/v1/label/U__%5f/values", b""),
        get("a path with a nul", "/%00/../..", b""),
        get("a query of broken escapes", "/api/v1/query?query=%&%&%zz=%e9&time=%", b""),
        get(
            "half a megabyte of ampersands",
            &format!("/api/v1/query?{}", "&".repeat(500_000)),
            b"",
        ),
    ];
    let names: [&[u8]; 12] = [
        b"",
        b" ",
        b"../../etc/passwd",
        b"..",
        b".",
        b"__mine__",
        b"a/b\\c",
        b"|",
        b"a||b",
        b"*",
        b"\xff\xfe\xfd",
        "\u{202e}tenant\u{0}".as_bytes(),
    ];
    let long = [b"a".repeat(151), b"a".repeat(10_000), b"a|".repeat(5_000)];
    let several: Vec<u8> = (0..5_000).flat_map(|i| format!("t{i}|").into_bytes()).collect();
    for name in names.iter().copied().chain(long.iter().map(Vec::as_slice)).chain([&several[..]]) {
        let shown = String::from_utf8_lossy(&name[..name.len().min(40)]).into_owned();
        let tenant = line("X-Scope-OrgID", name);
        bombs.push(get(&format!("read of tenant {shown:?}"), "/api/v1/labels", &tenant));
        let mut write = super::bodies::write(&format!("write to tenant {shown:?}"), &[]);
        write.headers.extend_from_slice(&tenant);
        bombs.push(Bomb { expected: EXPECTED, ..write });
    }
    range.survive(bombs);
}
