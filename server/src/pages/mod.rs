//! The pages a browser is shown and the files they are made of. They hold no data: what a page
//! shows it asks the API for, with the credentials its reader gives it.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use query::promql::{FUNCTIONS, Function, Variadic};
use serde_json::{Value, json};

/// A page or a file of the pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them.
pub(crate) const ASSETS: &[Asset] = &[
    page("/", include_str!("status.html")),
    page("/explore", include_str!("explore.html")),
    page("/search", include_str!("search.html")),
    page("/storage", include_str!("storage.html")),
    page("/targets", include_str!("targets.html")),
    script("/assets/bars.js", include_str!("bars.js")),
    script("/assets/common.js", include_str!("common.js")),
    script("/assets/complete.js", include_str!("complete.js")),
    script("/assets/explore.js", include_str!("explore.js")),
    script("/assets/plot.js", include_str!("plot.js")),
    script("/assets/search.js", include_str!("search.js")),
    script("/assets/status.js", include_str!("status.js")),
    script("/assets/storage.js", include_str!("storage.js")),
    script("/assets/targets.js", include_str!("targets.js")),
    script("/assets/words.js", include_str!("words.js")),
    Asset { path: "/assets/style.css", media_type: "text/css", text: include_str!("style.css") },
    Asset { path: "/assets/icon.svg", media_type: "image/svg+xml", text: include_str!("icon.svg") },
];

const fn page(path: &'static str, text: &'static str) -> Asset {
    Asset { path, media_type: HTML, text }
}

const fn script(path: &'static str, text: &'static str) -> Asset {
    Asset { path, media_type: SCRIPT, text }
}

/// What the pages may load, connect to and be framed by: this server alone. Styles stand in the
/// pages, and series bring their colours, so inline styles are allowed; inline scripts are not.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

impl Asset {
    pub(crate) fn answer(self) -> Response {
        let headers: [(HeaderName, &str); 4] = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // The files belong to one release; a browser asks again after an update.
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (StatusCode::OK, headers, self.text).into_response()
    }
}

/// The functions of PromQL with their signatures, for completion.
pub(crate) fn functions() -> Value {
    FUNCTIONS.iter().map(|f| json!({ "name": f.name, "signature": signature(f) })).collect()
}

fn signature(function: &Function) -> String {
    let mut args: Vec<String> = function.args.iter().map(|arg| arg.to_string()).collect();
    if function.variadic != Variadic::No
        && let Some(last) = args.last_mut()
    {
        *last = match function.variadic {
            Variadic::Any => format!("[{last}, …]"),
            Variadic::UpTo(_) | Variadic::No => format!("[{last}]"),
        };
    }
    let experimental = if function.experimental { ", experimental" } else { "" };
    format!("({}) → {}{experimental}", args.join(", "), function.returns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_a_page_names_is_served() {
        let served = |path: &str| {
            path == "/assets/functions.json" || ASSETS.iter().any(|asset| asset.path == path)
        };
        for asset in ASSETS {
            for quoted in asset.text.split('"').filter(|text| !text.contains(char::is_whitespace)) {
                let path = quoted.strip_prefix("./").map(|file| format!("/assets/{file}"));
                let path = path.unwrap_or_else(|| quoted.to_owned());
                if path.starts_with("/assets/") {
                    assert!(served(&path), "{} names {path}", asset.path);
                }
            }
        }
    }

    #[test]
    fn what_was_logged_is_never_made_html_of() {
        for path in ["/assets/search.js", "/assets/bars.js", "/assets/words.js"] {
            let asset = ASSETS.iter().find(|asset| asset.path == path).expect(path);
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!asset.text.contains(way), "{path} uses {way}");
            }
        }
    }

    #[test]
    fn signatures_tell_what_may_be_left_out() {
        let check = |name: &str, expected: &str| {
            let function = query::promql::function(name).expect("a function");
            assert_eq!(signature(function), expected, "{name}");
        };
        check("rate", "(range vector) → instant vector");
        check("time", "() → scalar");
        check("round", "(instant vector, [scalar]) → instant vector");
    }
}
