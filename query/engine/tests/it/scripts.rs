//! Our own scripts, so that the repository tests itself: every evaluation must pass, with names
//! dropped at once (as Prometheus does by default) unless the script's name says otherwise.

use engine::{Options, Pool};

use crate::run::run;

#[tokio::test]
async fn our_scripts_pass() {
    let folder = testkit::package_dir().join("tests/scripts");
    let pool = Pool::new(2);
    let mut evaluations = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let options = Options {
            late_names: name.starts_with("late_"),
            start_timestamps: name.contains("starts"),
            ..Options::default()
        };
        for outcome in run(&std::fs::read_to_string(&path).unwrap(), &options, &pool).await {
            evaluations += 1;
            if let Err(why) = outcome.result {
                failures.push(format!("{name}:{} {}\n    {why}", outcome.line, outcome.query));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(evaluations > 100, "only {evaluations} evaluations were found");
}
