//! Programs of our own that log: what sets are made of where the reference data is missing.

use std::fmt::Write;

use model::Random;

use super::Sample;
use crate::SeededRandom;

/// Lines of one program before they are multiplied.
const LINES: usize = 1_200;

/// What they happen at: any instant, since the set writes its own.
const AT: &str = "2026-03-04T05:06:07.089012345Z";

/// Programs, and the lines they write. Between angle brackets: `n` a number below what follows, `x`
/// so many hexadecimal digits, `c` one that grows, `ip` an address, `t` a timestamp of so many
/// characters, and words to choose one of.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "gateway",
        &[
            "ts=<t 23>Z level=<info|info|info|warn> caller=proxy.go:<n 400> msg=\"request done\" method=<GET|POST|PUT> \
             path=/api/v1/<orders|items|users>/<n 90000> status=<200|200|200|404|503> bytes=<n 30000> took=<n 900>ms trace=<x 32>",
            "ts=<t 23>Z level=debug caller=pool.go:<n 200> msg=\"connection reused\" upstream=<ip>:8080 idle=<n 90>s open=<n 64>",
            "ts=<t 23>Z level=error caller=retry.go:77 msg=\"upstream refused\" upstream=<ip>:8080 attempt=<n 4> error=\"dial tcp <ip>:8080: connect: connection refused\"",
        ],
    ),
    (
        "orders",
        &[
            "{\"time\":\"<t 23>Z\",\"level\":\"<info|info|warn>\",\"logger\":\"orders.store\",\"msg\":\"order written\",\"order\":<c 3>,\
             \"user\":\"u-<n 20000>\",\"amount\":\"<n 900>.<n 90>\",\"request\":{\"id\":\"<x 16>\",\"retries\":<n 3>}}",
            "{\"time\":\"<t 23>Z\",\"level\":\"error\",\"logger\":\"orders.stock\",\"msg\":\"reservation failed\",\"sku\":\"SKU-<n 5000>\",\"wanted\":<n 40>,\"left\":0,\"request\":{\"id\":\"<x 16>\",\"retries\":<n 3>}}",
            "{\"time\":\"<t 23>Z\",\"level\":\"debug\",\"logger\":\"orders.outbox\",\"msg\":\"batch published\",\"topic\":\"orders.<created|paid|shipped>\",\"partition\":<n 12>,\"offset\":<c 40>,\"records\":<n 500>}",
        ],
    ),
    (
        "frontend",
        &[
            "<ip> - - [04/Mar/2026:05:06:07 +0000] \"GET /static/app-<x 8>.js HTTP/1.1\" 200 <n 90000> \"https://shop.example.com/<cart|account|search>\" \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\" <n 50>",
            "<ip> - - [04/Mar/2026:05:06:07 +0000] \"POST /api/cart/<n 70000> HTTP/1.1\" <200|201|409> <n 900> \"-\" \"shop-app/<n 9>.<n 20>.<n 9> (iPhone; iOS 19.<n 5>)\" <n 400>",
        ],
    ),
    (
        "kubelet",
        &[
            "I0304 05:06:07.089012    1432 kubelet.go:<n 2500>] \"SyncLoop (PLEG): event for pod\" pod=\"<shop|infra|ml>/web-<x 9>-<x 5>\" event={\"ID\":\"<x 8>-<x 4>-<x 4>-<x 4>-<x 12>\",\"Type\":\"<ContainerStarted|ContainerDied>\"}",
            "E0304 05:06:07.089012    1432 pod_workers.go:1298] \"Error syncing pod, skipping\" err=\"failed to StartContainer for web with CrashLoopBackOff: back-off <n 5>m<n 50>s restarting\" podUID=<x 8>-<x 4>-<x 4>-<x 4>-<x 12>",
            "W0304 05:06:07.089012    1432 volume.go:<n 300>] Found orphaned volume directories for pod <x 8>-<x 4>-<x 4>-<x 4>-<x 12>, <n 4> left",
        ],
    ),
    (
        "ledger",
        &[
            "<t 19>,089 INFO  [pool-<n 8>-thread-<n 32>] c.e.ledger.Posting: posted entry <c 2> of account DE<n 90000><n 90000><n 90000> amount <n 9000>.<n 90> EUR in <n 80> ms",
            "<t 19>,089 WARN  [pool-<n 8>-thread-<n 32>] c.e.ledger.Lock: waited <n 3000> ms for row lock of account DE<n 90000><n 90000><n 90000>, holder session <n 4000>",
            "<t 19>,089 ERROR [pool-<n 8>-thread-<n 32>] c.e.ledger.Posting: posting <x 24> failed\n\tat com.example.ledger.Posting.apply(Posting.java:<n 400>)\n\tat com.example.ledger.Worker.run(Worker.java:<n 90>)",
        ],
    ),
    (
        "sshd",
        &[
            "Mar  4 05:06:07 node-<n 24> sshd[<n 30000>]: Failed password for <root|admin|deploy|invalid user test> from <ip> port <n 60000> ssh2",
            "Mar  4 05:06:07 node-<n 24> sshd[<n 30000>]: Connection closed by <ip> [preauth]",
            "Mar  4 05:06:07 node-<n 24> systemd[1]: Started Session <c 1> of user deploy.",
        ],
    ),
    (
        "postgres",
        &[
            "<t 19>.089 UTC [<n 30000>] LOG:  duration: <n 900>.<n 900> ms  statement: SELECT id, state, total FROM orders WHERE customer = <n 50000> ORDER BY created DESC LIMIT <20|50|100>",
            "<t 19>.089 UTC [<n 30000>] LOG:  checkpoint complete: wrote <n 9000> buffers (<n 60>.<n 9>%); 0 WAL file(s) added, <n 3> removed, <n 12> recycled; write=<n 260>.<n 900> s, sync=0.<n 90> s",
            "<t 19>.089 UTC [<n 30000>] ERROR:  duplicate key value violates unique constraint \"orders_pkey\"",
        ],
    ),
    (
        "trainer",
        &[
            "[<t 19>] step <c 5> loss 2.<n 9000> lr 0.000<n 900> grad_norm 1.<n 900> tokens/s <n 90000> mem 7<n 9>.<n 9>GiB",
            "[<t 19>] saved checkpoint /data/run-<x 8>/step-<c 50>.safetensors (<n 40>.<n 9> GiB in <n 90> s)",
        ],
    ),
];

/// The lines of each program.
pub(super) fn own_sources(seed: u64) -> Vec<Sample> {
    let lines = |(number, (name, forms)): (usize, &(&'static str, &[&str]))| {
        let random = SeededRandom::new(seed ^ (number as u64 + 1) << 32);
        let mut counters = vec![1_000; 16];
        let line = |_| {
            let form = forms[random.below(forms.len() as u64) as usize];
            filled(form, &random, &mut counters).into_bytes()
        };
        (*name, (0..LINES).map(line).collect())
    };
    PROGRAMS.iter().enumerate().map(lines).collect()
}

/// A line with values where its form has places for them.
fn filled(form: &str, random: &SeededRandom, counters: &mut [u64]) -> String {
    let (mut out, mut rest, mut place) = (String::new(), form, 0);
    while let Some((text, behind)) = rest.split_once('<') {
        let (what, behind) = behind.split_once('>').expect("a place is closed");
        (out, rest) = (out + text, behind);
        let (kind, size) = what.split_once(' ').unwrap_or((what, ""));
        let size: Option<u64> = size.parse().ok();
        let written = match (kind, size) {
            ("n", Some(below)) => write!(out, "{}", random.below(below)),
            ("x", Some(digits)) => {
                let text = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
                write!(out, "{}", &text[..digits as usize])
            }
            ("c", Some(step)) => {
                let counter = &mut counters[place % 16];
                *counter += 1 + random.below(step);
                write!(out, "{counter}")
            }
            ("t", Some(length)) => write!(out, "{}", &AT[..length as usize]),
            ("ip", None) => {
                let part = || random.below(250);
                write!(out, "10.{}.{}.{}", random.below(4), part(), part())
            }
            _ => {
                let words: Vec<&str> = what.split('|').collect();
                write!(out, "{}", words[random.below(words.len() as u64) as usize])
            }
        };
        written.expect("memory takes everything");
        place += 1;
    }
    out + rest
}
