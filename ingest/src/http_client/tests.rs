//! Asking real servers: credentials, redirects, bodies, tokens, TLS.

mod oauth2;
mod tls;

use std::path::Path;
use std::time::Duration;

use super::{BODY_BYTES_SHORT, Client, Clients, FetchError, HttpConfig, Question};
use crate::testing::server::{Answer, Server};
use crate::yaml::{Fields, Node};

/// A client of a configuration in YAML.
fn client(yaml: &str) -> Client {
    Clients::default().client(config(yaml)).expect("usable")
}

fn config(yaml: &str) -> HttpConfig {
    let node = Node::parse(yaml).expect("YAML");
    let mut fields = Fields::of(&node, "http_config").expect("a mapping");
    let config = HttpConfig::take(&mut fields, Path::new("")).expect("a configuration");
    fields.done().expect("every field is known");
    config
}

async fn ask(client: &Client, url: &str) -> Result<String, FetchError> {
    let question = Question { url, headers: &[], bytes_max: 100 };
    let answer = client.get(&question, Duration::from_secs(5)).await?;
    Ok(String::from_utf8(answer.body.inflated(100)?).expect("text"))
}

/// The head of the one request that a configuration makes.
async fn head(yaml: &str) -> String {
    let server = Server::start(|_| Answer::text("x")).await;
    ask(&client(yaml), &format!("http://{}/", server.address)).await.expect("an answer");
    server.requests().remove(0)
}

#[tokio::test]
async fn credentials_are_headers() {
    for (yaml, header) in [
        ("{}", ""),
        ("basic_auth: {username: u, password: p}", "authorization: Basic dTpw"),
        ("basic_auth: {username: u}", "authorization: Basic dTo="),
        ("authorization: {credentials: secret}", "authorization: Bearer secret"),
        ("authorization: {type: Token, credentials: secret}", "authorization: Token secret"),
        ("bearer_token: secret", "authorization: Bearer secret"),
        ("http_headers: {X-A: {values: [b, c]}}", "x-a: c"),
    ] {
        let head = head(yaml).await;
        assert!(head.lines().any(|line| line == header) || header.is_empty(), "{yaml}: {head}");
        assert_eq!(head.contains("authorization"), header.contains("authorization"), "{head}");
    }
}

#[tokio::test]
async fn files_of_secrets_are_read_each_time() {
    let file = std::env::temp_dir().join(format!("taffrail-token-{}", std::process::id()));
    std::fs::write(&file, "one\n").expect("written");
    let server = Server::start(|_| Answer::text("x")).await;
    let client = client(&format!("authorization: {{credentials_file: '{}'}}", file.display()));
    let url = format!("http://{}/", server.address);
    ask(&client, &url).await.expect("an answer");
    std::fs::write(&file, "two\n").expect("written");
    ask(&client, &url).await.expect("an answer");
    let heads = server.requests();
    assert!(heads[0].contains("Bearer one\r\n") && heads[1].contains("Bearer two\r\n"));
    std::fs::remove_file(&file).expect("removed");
    let error = ask(&client, &url).await.expect_err("no file");
    assert!(error.to_string().starts_with("unable to read file "), "{error}");
}

#[tokio::test]
async fn redirects_limits_and_errors() {
    let server = Server::answering(|_, request| match request.split(' ').nth(1) {
        Some("/from") => Answer {
            status: "302 Found",
            headers: "location: /to\r\n".to_owned(),
            ..Answer::text("")
        },
        Some("/long") => Answer::text(&"x".repeat(101)),
        Some("/bomb") => Answer::gzip(&"x".repeat(100_000)),
        Some("/broken") => {
            Answer { headers: "content-encoding: gzip\r\n".to_owned(), ..Answer::text("x") }
        }
        _ => Answer::text("there"),
    })
    .await;
    let at = |path: &str| format!("http://{}{path}", server.address);
    let following = client("{}");
    assert_eq!(ask(&following, &at("/from")).await.as_deref(), Ok("there"));
    let error = |result: Result<String, FetchError>| result.expect_err("refused").to_string();
    let staying = client("follow_redirects: false");
    assert_eq!(error(ask(&staying, &at("/from")).await), "server returned HTTP status 302 Found");
    for path in ["/long", "/bomb"] {
        let text = error(ask(&following, &at(path)).await);
        assert_eq!(text, "body size limit exceeded: more than 100 bytes", "{path}");
    }
    assert!(ask(&following, &at("/broken")).await.is_err());
    let text = error(ask(&following, "http://127.0.0.1:1/").await);
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn servers_that_say_nothing_are_not_waited_for() {
    // Connections are taken by the system, and nobody answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let question = Question { url: &url, headers: &[], bytes_max: 100 };
    let late = client("{}").get(&question, Duration::from_millis(50)).await;
    let text = late.expect_err("no time").to_string();
    assert_eq!(text, format!("Get \"{url}\": context deadline exceeded"));
}

#[tokio::test]
async fn long_bodies_wait_for_each_other_and_short_ones_do_not() {
    const LONG: usize = BODY_BYTES_SHORT + 1_000;
    let body = |request: &str| if request.starts_with("GET /long") { LONG } else { 1_000 };
    let server =
        Server::answering(move |_, request| Answer::text(&"x".repeat(body(request)))).await;
    let clients = Clients::with_room(1_500);
    let client = clients.client(config("{}")).expect("usable");
    let ask = async |path: &str, milliseconds: u64| {
        let url = format!("http://{}{path}", server.address);
        let question = Question { url: &url, headers: &[], bytes_max: 4 * BODY_BYTES_SHORT };
        client.get(&question, Duration::from_millis(milliseconds)).await
    };
    let first = ask("/long", 20_000).await.expect("there is room");
    let late = ask("/long", 300).await.expect_err("there is none");
    assert!(late.to_string().ends_with("context deadline exceeded"), "{late}");
    ask("/short", 20_000).await.expect("needs none");
    drop(first);
    let again = ask("/long", 20_000).await.expect("there is room again");
    assert_eq!(again.body.inflated(2 * LONG).expect("a body").len(), LONG);
}

#[tokio::test]
async fn proxies_are_asked_instead() {
    let proxy = Server::start(|_| Answer::text("proxied")).await;
    let client = client(&format!("proxy_url: 'http://{}'\nno_proxy: 127.0.0.1\n", proxy.address));
    assert_eq!(ask(&client, "http://target.test/metrics").await.as_deref(), Ok("proxied"));
    assert!(proxy.requests()[0].starts_with("GET http://target.test/metrics HTTP/1.1"));
    let server = Server::start(|_| Answer::text("direct")).await;
    let url = format!("http://{}/", server.address);
    assert_eq!(ask(&client, &url).await.as_deref(), Ok("direct"));
}
