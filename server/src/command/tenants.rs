//! `taffrail tenants`: the administrators' API on the command line.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, Server};
use super::escaped;
use super::text::{table, text};

/// Where the server is and who asks.
#[derive(Debug, Args)]
pub(crate) struct Tenants {
    #[command(flatten)]
    server: Server,
    /// Print the server's JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// List tenants.
    List {
        /// Only those whose name starts so.
        #[arg(long, default_value = "")]
        prefix: String,
        /// Those that were deleted instead.
        #[arg(long)]
        deleted: bool,
    },
    /// Show one tenant.
    Show { name: String },
    /// Create a tenant.
    Create { name: String },
    /// Give a tenant another name; the old one goes on as an alias.
    Rename { name: String, new: String },
    /// Refuse a tenant's writes.
    Suspend {
        name: String,
        /// Why; whoever is refused is told.
        #[arg(long, default_value = "")]
        reason: String,
        /// Refuse its reads as well.
        #[arg(long)]
        no_reads: bool,
    },
    /// Take a tenant's writes and reads again.
    Resume { name: String },
    /// Delete a tenant with everything that is stored of it. There is no way back.
    Delete {
        name: String,
        /// Yes, really.
        #[arg(long)]
        yes: bool,
    },
    /// Show a tenant's limits, or set some of them.
    Limits {
        name: String,
        /// `KEY=VALUE`, or `KEY=default` to take one back.
        #[arg(value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// What a tenant uses.
    Usage { name: String },
    /// What retention would let go now: whole blocks, and tenants' rows in blocks that stay.
    Retention,
    /// Who changed what, newest first.
    Audit {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// How many records.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

/// Runs the command and gives what to print.
pub(crate) fn run(arguments: &Tenants) -> Result<String> {
    let client = arguments.server.client()?;
    let data = ask(&client, &arguments.command)?;
    if arguments.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&data)?));
    }
    Ok(shown(&arguments.command, &data))
}

fn ask(client: &Client, command: &Command) -> Result<Value> {
    let of = |name: &str, rest: &str| format!("/api/v1/admin/tenants/{}{rest}", escaped(name));
    match command {
        Command::List { prefix, deleted } => list(client, prefix, *deleted),
        Command::Show { name } => client.call("GET", &of(name, ""), None),
        Command::Create { name } => {
            client.call("POST", "/api/v1/admin/tenants", Some(&json!({ "name": name })))
        }
        Command::Rename { name, new } => {
            client.call("POST", &of(name, "/rename"), Some(&json!({ "name": new })))
        }
        Command::Suspend { name, reason, no_reads } => {
            let how = json!({ "reason": reason, "reads": !no_reads });
            client.call("POST", &of(name, "/suspend"), Some(&how))
        }
        Command::Resume { name } => client.call("POST", &of(name, "/resume"), None),
        Command::Delete { name, yes } => {
            ensure!(
                *yes,
                "this deletes tenant {name} with everything that is stored of it; say --yes"
            );
            client.call("DELETE", &of(name, ""), None)
        }
        Command::Limits { name, set } if set.is_empty() => {
            client.call("GET", &of(name, "/limits"), None)
        }
        Command::Limits { name, set } => {
            client.call("PUT", &of(name, "/limits"), Some(&Value::Object(settings(set)?)))
        }
        Command::Usage { name } => client.call("GET", &of(name, "/usage"), None),
        Command::Retention => client.call("GET", "/api/v1/admin/retention", None),
        Command::Audit { tenant, limit } => {
            let of = tenant.as_ref().map(|t| format!("&tenant={}", escaped(t)));
            let path = format!("/api/v1/admin/audit?limit={limit}{}", of.unwrap_or_default());
            client.call("GET", &path, None)
        }
    }
}

/// All pages.
fn list(client: &Client, prefix: &str, deleted: bool) -> Result<Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let path = format!(
            "/api/v1/admin/tenants?limit=10000&after={after}&deleted={deleted}&prefix={}",
            escaped(prefix)
        );
        let page = client.call("GET", &path, None)?;
        all.extend(page["tenants"].as_array().cloned().unwrap_or_default());
        match page["next_after"].as_u64() {
            Some(next) if next > after => after = next,
            _ => return Ok(json!({ "tenants": all })),
        }
    }
}

fn settings(set: &[String]) -> Result<Map<String, Value>> {
    let mut limits = Map::new();
    for one in set {
        let Some((key, value)) = one.split_once('=') else {
            bail!("{one:?} is not KEY=VALUE");
        };
        let value = match value {
            "default" => Value::Null,
            number => serde_json::from_str::<serde_json::Number>(number)
                .map(Value::Number)
                .with_context(|| format!("{one:?}: the value is not a number"))?,
        };
        limits.insert(key.to_owned(), value);
    }
    Ok(limits)
}

fn shown(command: &Command, data: &Value) -> String {
    match command {
        Command::List { .. } => {
            let rows = data["tenants"].as_array().into_iter().flatten().map(|t| {
                let at = t["deleted_ms"].as_i64().or(t["created_ms"].as_i64());
                vec![
                    text(&t["id"]),
                    text(&t["name"]),
                    text(&t["status"]),
                    text(&json!(at)),
                    text(&t["reason"]),
                ]
            });
            table(&["ID", "NAME", "STATUS", "SINCE MS", "REASON"], rows)
        }
        Command::Limits { .. } => {
            let own = data["own"].as_object().cloned().unwrap_or_default();
            let rows = data["effective"].as_object().into_iter().flatten().map(|(key, value)| {
                let whose = if own.contains_key(key) { "own" } else { "configured" };
                vec![key.clone(), text(value), whose.to_owned()]
            });
            table(&["LIMIT", "VALUE", "FROM"], rows)
        }
        Command::Retention => {
            let rows = data["tenants"].as_array().into_iter().flatten().map(|t| {
                ["id", "name", "because", "before_ms", "bytes", "bytes_going", "series_going"]
                    .map(|key| text(&t[key]))
                    .to_vec()
            });
            let header =
                ["ID", "NAME", "BECAUSE", "BEFORE MS", "BYTES", "BYTES GOING", "SERIES GOING"];
            let blocks = data["blocks"].as_array().map_or(0, Vec::len);
            format!("{blocks} blocks go, {} bytes\n{}", data["blocks_bytes"], table(&header, rows))
        }
        Command::Audit { .. } => {
            let rows = data["entries"].as_array().into_iter().flatten().map(|e| {
                ["at_ms", "principal", "action", "tenant", "old", "new", "failed"]
                    .map(|key| text(&e[key]))
                    .to_vec()
            });
            table(&["AT MS", "WHO", "ACTION", "TENANT", "OLD", "NEW", "FAILED"], rows)
        }
        _ => {
            let rows = data.as_object().into_iter().flatten();
            table(&[], rows.map(|(key, value)| vec![key.clone(), text(value)]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let set = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            settings(&texts).map(Value::Object).map_err(|e| e.to_string())
        };
        assert_eq!(
            set(&["labels_max=3", "samples_burst=1.5", "age_seconds_max=default"]),
            Ok(json!({ "labels_max": 3, "samples_burst": 1.5, "age_seconds_max": null }))
        );
        assert_eq!(set(&["labels_max"]), Err("\"labels_max\" is not KEY=VALUE".to_owned()));
        let wrong = set(&["labels_max=many"]);
        assert_eq!(wrong, Err("\"labels_max=many\": the value is not a number".to_owned()));
    }

    #[test]
    fn tables_are_aligned() {
        let data = json!({ "tenants": [
            { "id": 1, "name": "a", "status": "active", "created_ms": 5 },
            { "id": 22, "name": "long-name", "status": "suspended", "created_ms": 6, "reason": "unpaid" },
        ] });
        let list = Command::List { prefix: String::new(), deleted: false };
        let expected = "\
ID  NAME       STATUS     SINCE MS  REASON
1   a          active     5
22  long-name  suspended  6         unpaid
";
        assert_eq!(shown(&list, &data), expected);
        let one = json!({ "id": 1, "name": "a" });
        assert_eq!(shown(&Command::Show { name: "a".to_owned() }, &one), "id    1\nname  a\n");
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("it's (a)*!"), "it%27s%20%28a%29%2A%21");
    }
}
