//! Tokens: asked for once, again when they end or the secret changes, and what is said when there is none.

use super::tls::Authority;
use super::{ask, client};
use crate::testing::server::{Answer, Server};

/// A configuration that gets its tokens there.
fn yaml(tokens: &str, more: &str) -> String {
    format!("oauth2: {{client_id: id, client_secret: p, token_url: '{tokens}/token'{more}}}")
}

fn http(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// Values of the header that a target got from two questions, by what the server of tokens answers.
async fn headers_of_two(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> [String; 2] {
    let tokens = Server::start(move |n| Answer::json(&answer(n))).await;
    let target = Server::start(|_| Answer::text("x")).await;
    let asking = client(&yaml(&http(&tokens), ""));
    for _ in 0..2 {
        ask(&asking, &http(&target)).await.expect("an answer");
    }
    let value = |head: &String| {
        let line = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        line.expect("the header").to_owned()
    };
    target.requests().iter().map(value).collect::<Vec<_>>().try_into().expect("two questions")
}

#[tokio::test]
async fn tokens_are_asked_for_once() {
    let tokens = Server::answering(|n, request| {
        match (n, request.contains("authorization: Basic aWQ6cA==")) {
            // A server that wants the secret in the form.
            (0, true) => Answer { status: "401 Unauthorized", ..Answer::json("{}") },
            (1, false) => {
                Answer::json(r#"{"access_token":"t1","token_type":"bearer","expires_in":3600}"#)
            }
            _ => Answer { status: "400 Bad Request", ..Answer::json("{}") },
        }
    })
    .await;
    let server = Server::start(|_| Answer::text("x")).await;
    let client = client(&format!(
        "oauth2: {{client_id: id, client_secret: p, token_url: 'http://{}/token', scopes: [a, b], endpoint_params: {{x: y z}}}}",
        tokens.address
    ));
    let url = format!("http://{}/", server.address);
    for _ in 0..2 {
        ask(&client, &url).await.expect("an answer");
    }
    assert!(server.requests().iter().all(|head| head.contains("authorization: Bearer t1\r\n")));
    let asked = tokens.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let form = asked[1].rsplit("\r\n").next().expect("a form");
    assert_eq!(form, "grant_type=client_credentials&scope=a+b&x=y+z&client_id=id&client_secret=p");
}

#[tokio::test]
async fn tokens_are_used_until_they_end() {
    for (more, expected) in [
        ("", ["Bearer t0", "Bearer t0"]),
        (r#","expires_in":3600"#, ["Bearer t0", "Bearer t0"]),
        (r#","expires_in":"3600""#, ["Bearer t0", "Bearer t0"]),
        (r#","expires_in":0"#, ["Bearer t0", "Bearer t0"]),
        (r#","expires_in":18446744073709551615"#, ["Bearer t0", "Bearer t0"]),
        // About to end: not used for another question.
        (r#","expires_in":9"#, ["Bearer t0", "Bearer t1"]),
        (r#","token_type":"Bearer""#, ["Bearer t0", "Bearer t0"]),
        (r#","token_type":"Other""#, ["Other t0", "Other t0"]),
    ] {
        let found = headers_of_two(move |n| format!(r#"{{"access_token":"t{n}"{more}}}"#)).await;
        assert_eq!(found, expected, "{more}");
    }
}

#[tokio::test]
async fn another_secret_gets_another_token() {
    let file = std::env::temp_dir().join(format!("taffrail-oauth2-{}", std::process::id()));
    std::fs::write(&file, "one").expect("written");
    let tokens = Server::start(|n| Answer::json(&format!(r#"{{"access_token":"t{n}"}}"#))).await;
    let target = Server::start(|_| Answer::text("x")).await;
    let asking = client(&format!(
        "oauth2: {{client_id: id, client_secret_file: '{}', token_url: '{}'}}",
        file.display(),
        http(&tokens)
    ));
    for secret in ["one", "one", "two"] {
        std::fs::write(&file, secret).expect("written");
        ask(&asking, &http(&target)).await.expect("an answer");
    }
    std::fs::remove_file(&file).expect("removed");
    let asked = tokens.requests();
    // `id:one` and `id:two`.
    for (head, basic) in asked.iter().zip(["aWQ6b25l", "aWQ6dHdv"]) {
        assert!(head.contains(&format!("authorization: Basic {basic}\r\n")), "{head}");
    }
    assert_eq!(asked.len(), 2, "{asked:?}");
    let error = ask(&asking, &http(&target)).await.expect_err("no secret").to_string();
    assert!(error.starts_with("unable to read file "), "{error}");
}

#[tokio::test]
async fn servers_say_why_there_is_no_token() {
    for (status, body, expected) in [
        (
            "500 Internal Server Error",
            "oops",
            "oauth2: cannot fetch token: 500 Internal Server Error",
        ),
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"no such \"client\""}"#,
            r#"oauth2: "invalid_client" "no such \"client\"""#,
        ),
        ("200 OK", r#"{"error":"invalid_scope","access_token":"t"}"#, r#"oauth2: "invalid_scope""#),
        ("200 OK", "{}", "oauth2: server response missing access_token"),
        ("200 OK", r#"{"access_token":""}"#, "oauth2: server response missing access_token"),
        ("200 OK", r#"{"access_token":5}"#, "oauth2: server response missing access_token"),
        ("200 OK", "[]", "oauth2: server response missing access_token"),
        ("200 OK", "t", "oauth2: cannot read the token's answer: "),
        ("200 OK", r#"{"access_token":"a\nb"}"#, "header \"Authorization\" is not valid"),
    ] {
        let tokens = Server::start(move |_| Answer { status, ..Answer::json(body) }).await;
        let target = Server::start(|_| Answer::text("x")).await;
        let asking = client(&yaml(&http(&tokens), ""));
        let error = ask(&asking, &http(&target)).await.expect_err("no token").to_string();
        assert!(error.starts_with(expected), "{status} {body}: {error}");
        assert!(target.requests().is_empty(), "nobody is asked without a token");
    }
    let gone = client(&yaml("http://127.0.0.1:1", ""));
    let error = ask(&gone, "http://127.0.0.1:1/").await.expect_err("nobody there").to_string();
    assert!(error.starts_with("oauth2: ") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn parameters_are_sent_as_configured() {
    for (more, expected) in [
        ("", Ok("grant_type=client_credentials")),
        (", scopes: [a, b]", Ok("grant_type=client_credentials&scope=a+b")),
        (
            ", endpoint_params: {audience: 'https://x/?a=b', resource: é}",
            Ok("grant_type=client_credentials&audience=https%3A%2F%2Fx%2F%3Fa%3Db&resource=%C3%A9"),
        ),
        (", endpoint_params: {grant_type: password}", Ok("grant_type=password")),
        (
            ", scopes: [a], endpoint_params: {scope: b}",
            Err("oauth2: cannot overwrite parameter \"scope\""),
        ),
    ] {
        let tokens = Server::start(|_| Answer::json(r#"{"access_token":"t"}"#)).await;
        let target = Server::start(|_| Answer::text("x")).await;
        let asked = ask(&client(&yaml(&http(&tokens), more)), &http(&target)).await;
        let form =
            tokens.requests().first().and_then(|r| Some(r.rsplit("\r\n").next()?.to_owned()));
        match expected {
            Ok(expected) => assert_eq!(form.as_deref(), Some(expected), "{more}"),
            Err(expected) => assert_eq!(asked.expect_err("refused").to_string(), expected),
        }
    }
}

#[tokio::test]
async fn servers_of_tokens_are_asked_by_tls_of_their_own() {
    let authority = Authority::new("one");
    let tokens = Server::over_tls(authority.acceptor("tokens.test"), |_| {
        Answer::json(r#"{"access_token":"t"}"#)
    })
    .await;
    let target = Server::start(|_| Answer::text("x")).await;
    let (cert, key) = authority.sign("client");
    let inline = |name: &str, pem: &str| format!("{name}: {:?}", pem);
    let pair = format!("{}, {}", inline("cert", &cert), inline("key", &key));
    let ca = inline("ca", &authority.pem());
    let at = format!("https://{}", tokens.address);
    for (tls, expected) in [
        (format!("{ca}, {pair}, server_name: tokens.test"), None),
        (format!("{pair}, insecure_skip_verify: true"), None),
        (format!("{ca}, {pair}"), Some("not valid for name \"127.0.0.1\"")),
        (format!("{pair}, server_name: tokens.test"), Some("UnknownIssuer")),
        (format!("{ca}, server_name: tokens.test"), Some("CertificateRequired")),
    ] {
        let asking = client(&yaml(&at, &format!(", tls_config: {{{tls}}}")));
        match (ask(&asking, &http(&target)).await, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                let text = error.to_string();
                assert!(text.starts_with("oauth2: ") && text.contains(expected), "{text}");
            }
            (found, expected) => panic!("{tls}: {found:?}, expected {expected:?}"),
        }
    }
}
